//! RFC 6121 §2.6: clients that keep a roster of an older version.

use starling_test_support::{Element, RawClient};

use super::{NS, items, line, put};
use crate::{juliet, romeo, verona};

fn version(iq: &Element) -> String {
    iq.as_raw().child("query", NS).unwrap().attribute("ver").unwrap().into_owned()
}

/// Asks as one who has this version. `Err`: the whole roster; else the changes, each with the version it leads to.
async fn changes(client: &mut RawClient, version_known: &str) -> Result<Vec<(String, String)>, Vec<String>> {
    client.send(&format!("<iq type='get' id='known'><query xmlns='{NS}' ver='{version_known}'/></iq>")).await;
    let answer = client.element().await;
    assert_eq!(answer.as_raw().attribute("id").as_deref(), Some("known"), "§2.6.3: the result is first");
    assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"));
    if answer.as_raw().children().next().is_some() {
        return Err(items(&answer));
    }
    let pushes = client.until_quiet().await;
    Ok(pushes.iter().map(|push| (line(push).replace("push ", ""), version(push))).collect())
}

#[tokio::test]
async fn rfc6121_2_6_1_the_server_announces_versions_and_approval_in_advance() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    let features = client.identify("juliet@localhost", "r0m30").await;
    assert!(features.as_raw().child("ver", "urn:xmpp:features:rosterver").is_some());
    assert!(features.as_raw().child("sub", "urn:xmpp:features:pre-approval").is_some());
}

#[tokio::test]
async fn rfc6121_2_6_3_who_has_the_latest_version_is_told_nothing_new() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let empty = version(&client.roster().await);
    assert_eq!(changes(&mut client, &empty).await, Ok(vec![]));
    put(&mut client, "<item jid='a@b.example'/>").await;
    let pushed = version(&client.element().await);
    assert_ne!(pushed, empty);
    assert_eq!(version(&client.roster().await), pushed);
    assert_eq!(changes(&mut client, &pushed).await, Ok(vec![]));
}

#[tokio::test]
async fn rfc6121_2_6_3_who_has_an_older_version_is_pushed_what_changed_since() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for item in ["a@b.example", "stays@b.example", "goes@b.example", "z@b.example"] {
        put(&mut client, &format!("<item jid='{item}'/>")).await;
    }
    let old = version(&juliet(&server, "silent").await.roster().await);
    put(&mut client, "<item jid='goes@b.example' subscription='remove'/>").await;
    put(&mut client, "<item jid='a@b.example' name='One'/>").await;
    put(&mut client, "<item jid='new@b.example'/>").await;
    put(&mut client, "<item jid='a@b.example' name='Two'/>").await;
    put(&mut client, "<item jid='z@b.example' subscription='remove'/>").await;
    let mut other = juliet(&server, "chamber").await;
    let told = changes(&mut other, &old).await.unwrap();
    let expected = ["goes@b.example remove", "new@b.example none", "a@b.example none 'Two'", "z@b.example remove"];
    assert_eq!(told.iter().map(|(item, _)| item.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(told.last().unwrap().1, version(&other.roster().await));
    // Cut off behind any of them, the rest comes the next time.
    for (at, (_, version)) in told.iter().enumerate() {
        let rest = changes(&mut other, version).await.unwrap();
        let rest: Vec<_> = rest.iter().map(|(item, _)| item.as_str()).collect();
        for missing in &expected[at + 1..] {
            assert!(rest.contains(missing), "{rest:?} lacks {missing}");
        }
    }
    // And from then on it is told of what changes.
    put(&mut other, "<item jid='last@b.example'/>").await;
    assert_eq!(line(&other.element().await), "push last@b.example none");
}

#[tokio::test]
async fn rfc6121_2_6_2_who_has_no_version_or_one_that_never_was_gets_the_roster() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    put(&mut client, "<item jid='a@b.example'/>").await;
    for version in ["", "x", "-1", "18446744073709551615", "99999999999999999999999"] {
        assert_eq!(changes(&mut client, version).await, Err(vec!["a@b.example none".to_owned()]), "{version}");
    }
}

#[tokio::test]
async fn rfc6121_2_6_3_where_too_much_changed_the_whole_roster_is_shorter() {
    let server = verona().set("c2s.limits.bytes_per_second", "off").start().await;
    let mut client = juliet(&server, "balcony").await;
    let old = version(&client.roster().await);
    let (mut other, mut third) = (juliet(&server, "chamber").await, juliet(&server, "hall").await);
    for number in 0..101 {
        put(&mut other, &format!("<item jid='{number}@b.example'/>")).await;
    }
    assert_eq!(changes(&mut third, &old).await.unwrap_err().len(), 101);
}

/// §2.1.2.5: who asks is not in the roster, and what changes about that is no news of it.
#[tokio::test]
async fn rfc6121_2_6_requests_of_others_do_not_show_in_versions() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    put(&mut client, "<item jid='a@b.example'/>").await;
    let old = version(&client.roster().await);
    let mut romeo = romeo(&server, "orchard").await;
    romeo.send("<presence to='juliet@localhost' type='subscribe'/>").await;
    romeo.expect_nothing().await;
    let roster = client.roster().await;
    assert_eq!(items(&roster), ["a@b.example none"]);
    for (item, _) in changes(&mut client, &old).await.unwrap() {
        assert_eq!(item, "romeo@localhost remove");
    }
}
