//! XEP-0202: entity time.

use std::time::SystemTime;

use starling_test_support::condition;

use crate::{juliet, verona};

const TIME: &str = "urn:xmpp:time";

/// Seconds since midnight of the day in a date-time of XEP-0082 §3.2 in UTC.
fn of_day(stamp: &str) -> u64 {
    let (date, time) = stamp.split_once('T').unwrap();
    assert!(date.len() == 10 && date.starts_with("20"), "{stamp}");
    let time = time.strip_suffix('Z').unwrap();
    let numbers: Vec<f64> = time.split(':').map(|number| number.parse().unwrap()).collect();
    let [hours, minutes, seconds] = numbers[..] else { panic!("{stamp}") };
    (hours * 3600.0 + minutes * 60.0 + seconds) as u64
}

#[tokio::test]
async fn xep0202_3_the_server_tells_its_time_in_utc() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let answer = client.ask(&format!("<iq type='get' id='t' to='localhost'><time xmlns='{TIME}'/></iq>")).await;
    let time = answer.as_raw().child("time", TIME).unwrap();
    assert_eq!(time.child("tzo", TIME).unwrap().text(), "+00:00");
    let told = of_day(&time.child("utc", TIME).unwrap().text());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() % 86_400;
    // Midnight may pass between the two.
    let apart = now.abs_diff(told);
    assert!(apart.min(86_400 - apart) < 60, "{}", client.transcript());
}

#[tokio::test]
async fn xep0202_accounts_have_no_time() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for to in ["romeo@localhost", "nobody@localhost"] {
        let answer = client.ask(&format!("<iq type='get' id='t' to='{to}'><time xmlns='{TIME}'/></iq>")).await;
        assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"), "{to}");
    }
}
