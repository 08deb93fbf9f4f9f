//! XEP-0030: service discovery. XEP-0199: ping.

use crate::{both, juliet, verona};

const INFO: &str = "http://jabber.org/protocol/disco#info";
const ITEMS: &str = "http://jabber.org/protocol/disco#items";

#[tokio::test]
async fn xep0030_3_1_the_server_says_what_it_is_and_knows() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let answer = client.ask(&format!("<iq type='get' id='1' to='localhost'><query xmlns='{INFO}'/></iq>")).await;
    assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"));
    assert_eq!(answer.as_raw().attribute("from").as_deref(), Some("localhost"));
    let query = answer.as_raw().child("query", INFO).unwrap();
    let identity = query.child("identity", INFO).unwrap();
    assert_eq!(identity.attribute("category").as_deref(), Some("server"));
    assert_eq!(identity.attribute("type").as_deref(), Some("im"));
    let features: Vec<_> =
        query.children().filter(|child| child.name() == "feature").filter_map(|child| child.attribute("var")).collect();
    for feature in [INFO, ITEMS, "urn:xmpp:ping"] {
        assert!(features.iter().any(|found| found == feature), "{feature} in {features:?}");
    }
}

#[tokio::test]
async fn xep0030_3_2_an_unknown_node_is_not_found() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for namespace in [INFO, ITEMS] {
        let answer = client
            .ask(&format!("<iq type='get' id='1' to='localhost'><query xmlns='{namespace}' node='none'/></iq>"))
            .await;
        let error = answer.as_raw().child("error", "jabber:client").unwrap();
        assert!(error.child("item-not-found", "urn:ietf:params:xml:ns:xmpp-stanzas").is_some());
    }
}

#[tokio::test]
async fn xep0030_4_1_the_server_lists_its_items() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let answer = client.ask(&format!("<iq type='get' id='1' to='localhost'><query xmlns='{ITEMS}'/></iq>")).await;
    assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"));
    assert!(answer.as_raw().child("query", ITEMS).is_some());
}

#[tokio::test]
async fn xep0199_4_2_the_server_answers_a_ping() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for (to, from) in [("to='localhost'", Some("localhost")), ("", None), ("to='juliet@localhost'", None)] {
        let answer = client.ask(&format!("<iq type='get' id='p' {to}><ping xmlns='urn:xmpp:ping'/></iq>")).await;
        assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"), "{}", client.transcript());
        assert_eq!(answer.as_raw().children().count(), 0);
        if from.is_some() {
            assert_eq!(answer.as_raw().attribute("from").as_deref(), from);
        }
    }
}

#[tokio::test]
async fn xep0199_4_4_a_ping_from_client_to_client_is_handed_on() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet.send("<iq type='get' id='p' to='romeo@localhost/orchard'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    assert!(romeo.element().await.as_raw().child("ping", "urn:xmpp:ping").is_some());
    romeo.send("<iq type='result' id='p' to='juliet@localhost/balcony'/>").await;
    assert_eq!(juliet.element().await.as_raw().attribute("from").as_deref(), Some("romeo@localhost/orchard"));
}
