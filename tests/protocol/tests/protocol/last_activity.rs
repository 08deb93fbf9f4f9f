//! XEP-0012: last activity.

use starling_test_support::{Element, RawClient, befriend, condition};

use crate::{both, juliet, verona};

const LAST: &str = "jabber:iq:last";

async fn ask(client: &mut RawClient, to: &str) -> Element {
    client.ask(&format!("<iq type='get' id='l' to='{to}'><query xmlns='{LAST}'/></iq>")).await
}

/// Seconds and status.
fn told(answer: &Element) -> (u64, String) {
    let query = answer.as_raw().child("query", LAST).unwrap();
    (query.attribute("seconds").unwrap().parse().unwrap(), query.text().into_owned())
}

#[tokio::test]
async fn xep0012_3_the_server_tells_how_long_it_is_up() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let (seconds, status) = told(&ask(&mut client, "localhost").await);
    assert!(seconds < 3600 && status.is_empty(), "{}", client.transcript());
}

#[tokio::test]
async fn xep0012_4_those_without_a_subscription_are_forbidden_to_ask_whether_there_is_an_account_or_not() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for to in ["romeo@localhost", "nobody@localhost"] {
        assert_eq!(condition(&ask(&mut client, to).await).as_deref(), Some("forbidden"), "{to}");
    }
}

#[tokio::test]
async fn xep0012_4_ones_own_account_is_active_while_it_is_available_and_keeps_the_last_words() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let never = ask(&mut client, "juliet@localhost").await;
    assert_eq!(condition(&never).as_deref(), Some("item-not-found"));
    client.become_available(-1).await;
    assert_eq!(told(&ask(&mut client, "juliet@localhost").await), (0, String::new()));
    client.send("<presence type='unavailable'><status>Heading &lt;home&gt;</status></presence>").await;
    let full = client.full().to_owned();
    client.until_presence(&full, Some("unavailable")).await;
    let (seconds, status) = told(&ask(&mut client, "juliet@localhost").await);
    assert!(seconds < 60, "{}", client.transcript());
    assert_eq!(status, "Heading <home>");
    client.close().await;
    let mut client = juliet(&server, "balcony").await;
    // What the session left is written when it has ended.
    loop {
        let answer = ask(&mut client, "juliet@localhost").await;
        if condition(&answer).is_none() {
            assert_eq!(told(&answer).1, "Heading <home>");
            break;
        }
    }
}

#[tokio::test]
async fn xep0012_4_subscribers_may_ask_also_when_the_session_ended_without_a_word() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet.become_available(0).await;
    romeo.become_available(0).await;
    befriend(&mut juliet, &mut romeo).await;
    assert_eq!(told(&ask(&mut juliet, "romeo@localhost").await), (0, String::new()));
    let full = romeo.full().to_owned();
    drop(romeo);
    juliet.until_presence(&full, Some("unavailable")).await;
    loop {
        let answer = ask(&mut juliet, "romeo@localhost").await;
        if condition(&answer).is_none() {
            assert!(told(&answer).0 < 60, "{}", juliet.transcript());
            break;
        }
        assert_eq!(condition(&answer).as_deref(), Some("item-not-found"), "not written yet");
    }
}
