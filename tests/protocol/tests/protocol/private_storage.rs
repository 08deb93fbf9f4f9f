//! XEP-0049: private XML storage.

use starling_test_support::{Element, RawClient, condition};

use crate::{juliet, romeo, verona};

const PRIVATE: &str = "jabber:iq:private";

async fn ask(client: &mut RawClient, kind: &str, to: &str, inner: &str) -> Element {
    client.ask(&format!("<iq type='{kind}' id='p' {to}><query xmlns='{PRIVATE}'>{inner}</query></iq>")).await
}

async fn set(client: &mut RawClient, inner: &str) -> Option<String> {
    let answer = ask(client, "set", "", inner).await;
    let error = condition(&answer);
    assert!(error.is_some() || answer.as_raw().attribute("type").as_deref() == Some("result"));
    error
}

#[tokio::test]
async fn xep0049_3_what_is_set_is_got_by_any_resource_and_nobody_else() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let data = "<exodus xmlns='exodus:prefs'><defaultnick>H&amp;mlet</defaultnick><a b='1'/></exodus>";
    assert_eq!(set(&mut client, data).await, None);
    let mut other = juliet(&server, "chamber").await;
    for to in ["", "to='juliet@localhost'"] {
        let answer = ask(&mut other, "get", to, "<exodus xmlns='exodus:prefs'/>").await;
        let query = answer.as_raw().child("query", PRIVATE).unwrap();
        let kept = query.child("exodus", "exodus:prefs").unwrap();
        assert_eq!(kept.child("defaultnick", "exodus:prefs").unwrap().text(), "H&mlet");
        assert_eq!(kept.child("a", "exodus:prefs").unwrap().attribute("b").as_deref(), Some("1"));
    }
    let mut romeo = romeo(&server, "orchard").await;
    let answer = ask(&mut romeo, "get", "", "<exodus xmlns='exodus:prefs'/>").await;
    let query = answer.as_raw().child("query", PRIVATE).unwrap();
    assert_eq!(query.child("exodus", "exodus:prefs").unwrap().children().count(), 0);
}

#[tokio::test]
async fn xep0049_3_elements_are_kept_by_name_and_namespace_and_replaced_whole() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let several = "<a xmlns='urn:one'>1</a><a xmlns='urn:two'>2</a><b xmlns='urn:one'>3</b>";
    assert_eq!(set(&mut client, several).await, None);
    assert_eq!(set(&mut client, "<a xmlns='urn:one'><c/></a>").await, None);
    let wanted = "<a xmlns='urn:one'/><a xmlns='urn:two'/><b xmlns='urn:one'/><b xmlns='urn:two'/>";
    let answer = ask(&mut client, "get", "", wanted).await;
    let query = answer.as_raw().child("query", PRIVATE).unwrap();
    let got: Vec<_> = query
        .children()
        .map(|child| (child.name().to_owned(), child.namespace().to_owned(), child.text().into_owned()))
        .collect();
    let expected = [("a", "urn:one", ""), ("a", "urn:two", "2"), ("b", "urn:one", "3"), ("b", "urn:two", "")];
    let expected: Vec<_> = expected.map(|(name, ns, text)| (name.to_owned(), ns.to_owned(), text.to_owned())).to_vec();
    assert_eq!(got, expected);
    assert_eq!(query.children().next().unwrap().children().count(), 1);
}

#[tokio::test]
async fn xep0049_4_elements_without_a_namespace_of_their_own_are_not_acceptable() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for inner in ["", "<a/>", "<a xmlns=''/>", "<a xmlns='urn:one'/><b/>", "<message xmlns='jabber:client'/>"] {
        for kind in ["get", "set"] {
            let answer = ask(&mut client, kind, "", inner).await;
            assert_eq!(condition(&answer).as_deref(), Some("not-acceptable"), "{kind} {inner}");
        }
    }
    let answer = ask(&mut client, "get", "", "<a xmlns='urn:one'/>").await;
    assert_eq!(answer.as_raw().child("query", PRIVATE).unwrap().child("a", "urn:one").unwrap().text(), "");
}

#[tokio::test]
async fn xep0049_4_somebody_elses_is_forbidden_whether_there_is_such_an_account_or_not() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for to in ["to='romeo@localhost'", "to='nobody@localhost'"] {
        for kind in ["get", "set"] {
            let answer = ask(&mut client, kind, to, "<a xmlns='urn:one'>x</a>").await;
            assert_eq!(condition(&answer).as_deref(), Some("forbidden"), "{kind} {to}");
        }
    }
}

#[tokio::test]
async fn an_account_keeps_256_kib_and_no_more() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let element = |name: &str, length: usize| format!("<{name} xmlns='urn:one'>{}</{name}>", "x".repeat(length));
    assert_eq!(set(&mut client, &element("a", 200_000)).await, None);
    assert_eq!(set(&mut client, &element("b", 200_000)).await.as_deref(), Some("resource-constraint"));
    assert_eq!(set(&mut client, &element("b", 50_000)).await, None);
    let answer = ask(&mut client, "get", "", "<a xmlns='urn:one'/>").await;
    let query = answer.as_raw().child("query", PRIVATE).unwrap();
    assert_eq!(query.child("a", "urn:one").unwrap().text().len(), 200_000);
    // What replaces something counts in its place.
    assert_eq!(set(&mut client, &element("a", 1_000)).await, None);
    assert_eq!(set(&mut client, &element("b", 200_000)).await, None);
}
