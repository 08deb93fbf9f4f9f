//! XEP-0092: software version.

use starling_test_support::condition;

use crate::{juliet, verona};

const VERSION: &str = "jabber:iq:version";

#[tokio::test]
async fn xep0092_3_the_server_says_name_and_version_and_not_what_it_runs_on() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let answer = client.ask(&format!("<iq type='get' id='v' to='localhost'><query xmlns='{VERSION}'/></iq>")).await;
    let query = answer.as_raw().child("query", VERSION).unwrap();
    assert_eq!(query.child("name", VERSION).unwrap().text(), "Starling");
    assert_eq!(query.child("version", VERSION).unwrap().text(), env!("CARGO_PKG_VERSION"));
    assert_eq!(query.children().count(), 2, "{}", client.transcript());
}

#[tokio::test]
async fn xep0092_accounts_have_no_version_and_nothing_can_be_set() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for (kind, to) in [("get", "romeo@localhost"), ("get", "nobody@localhost"), ("set", "localhost")] {
        let answer = client.ask(&format!("<iq type='{kind}' id='v' to='{to}'><query xmlns='{VERSION}'/></iq>")).await;
        assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"), "{to}");
    }
}
