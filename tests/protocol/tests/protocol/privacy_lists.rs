//! XEP-0016: Privacy Lists.

use starling_test_support::{Element, RawClient, befriend, body, condition};

use crate::{both, juliet, romeo, verona};

const NS: &str = "jabber:iq:privacy";

/// Sends a request; the answer, and what came before it.
async fn answer(client: &mut RawClient, kind: &str, inner: &str) -> (Element, Vec<Element>) {
    client.send(&format!("<iq type='{kind}' id='asked'><query xmlns='{NS}'>{inner}</query></iq>")).await;
    let mut before = Vec::new();
    loop {
        let element = client.element().await;
        if element.as_raw().name() == "iq" && element.as_raw().attribute("id").as_deref() == Some("asked") {
            return (element, before);
        }
        before.push(element);
    }
}

async fn set(client: &mut RawClient, inner: &str) -> Vec<Element> {
    let (result, before) = answer(client, "set", inner).await;
    assert_eq!(result.as_raw().attribute("type").as_deref(), Some("result"), "{}", client.transcript());
    before
}

async fn refused(client: &mut RawClient, kind: &str, inner: &str) -> String {
    let (answer, _) = answer(client, kind, inner).await;
    condition(&answer).unwrap_or_else(|| panic!("{}", client.transcript()))
}

/// Everything that was on its way. The answer to a ping may overtake what came in while the server wrote another; it does
/// not overtake the answer to the next ping.
async fn all(client: &mut RawClient) -> Vec<Element> {
    let mut all = client.until_quiet().await;
    all.extend(client.until_quiet().await);
    all
}

/// Sets a list and makes it active.
async fn apply(client: &mut RawClient, items: &str) {
    set(client, &format!("<list name='l'>{items}</list>")).await;
    set(client, "<active name='l'/>").await;
    all(client).await;
}

/// Active list, default list, all lists.
async fn names(client: &mut RawClient) -> (Option<String>, Option<String>, Vec<String>) {
    let (result, _) = answer(client, "get", "").await;
    let query = result.as_raw().child("query", NS).unwrap_or_else(|| panic!("{}", client.transcript()));
    let named = |name: &str| {
        let children = query.children().filter(|child| child.name() == name);
        children.map(|child| child.attribute("name").unwrap().into_owned()).collect::<Vec<_>>()
    };
    (named("active").pop(), named("default").pop(), named("list"))
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn message(to: &str, text: &str) -> String {
    format!("<message to='{to}' type='chat' id='m'><body>{text}</body></message>")
}

const ROMEO: &str = "<item type='jid' value='romeo@localhost' action='deny' order='1'/>";
const NOBODY: &str = "<item action='deny' order='9'/>";
const EVERYBODY: &str = "<item action='allow' order='9'/>";

#[tokio::test]
async fn xep0016_3_the_server_says_that_it_knows_privacy_lists() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let info = client.ask(&format!("<iq type='get' id='1' to='localhost'>{query}</iq>")).await;
    let query = info.as_raw().children().next().unwrap();
    assert!(query.children().any(|child| child.attribute("var").as_deref() == Some(NS)));
}

#[tokio::test]
async fn xep0016_2_3_names_and_lists_come_back_as_they_were_set() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    assert_eq!(names(&mut client).await, (None, None, vec![]));
    let items = "<item type='subscription' value='both' action='allow' order='10'/>\
                 <item type='jid' value='Tybalt@example.com' action='deny' order='2'><message/><presence-in/></item>\
                 <item action='deny' order='15'><iq/><presence-out/></item>";
    set(&mut client, &format!("<list name='private'>{items}</list>")).await;
    set(&mut client, &format!("<list name='public'>{EVERYBODY}</list>")).await;
    set(&mut client, "<active name='private'/>").await;
    set(&mut client, "<default name='public'/>").await;
    let expected = (Some("private".to_owned()), Some("public".to_owned()), owned(&["private", "public"]));
    assert_eq!(names(&mut client).await, expected);
    let (result, _) = answer(&mut client, "get", "<list name='private'/>").await;
    let list = result.as_raw().child("query", NS).unwrap().child("list", NS).unwrap();
    assert_eq!(list.attribute("name").as_deref(), Some("private"));
    let items: Vec<_> = list
        .children()
        .map(|item| {
            let of = |name| item.attribute(name).unwrap_or_default().into_owned();
            let kinds: Vec<_> = item.children().map(|kind| kind.name().to_owned()).collect();
            (of("type"), of("value"), of("action"), of("order"), kinds.join(" "))
        })
        .collect();
    let texts = |item: [&str; 5]| {
        let [kind, value, action, order, kinds] = item.map(str::to_owned);
        (kind, value, action, order, kinds)
    };
    assert_eq!(
        items,
        [
            texts(["jid", "tybalt@example.com", "deny", "2", "message presence-in"]),
            texts(["subscription", "both", "allow", "10", ""]),
            texts(["", "", "deny", "15", "iq presence-out"]),
        ]
    );
}

#[tokio::test]
async fn xep0016_2_each_request_that_breaks_a_rule_gets_the_error_of_the_rule() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    set(&mut client, &format!("<list name='l'>{EVERYBODY}</list>")).await;
    for (kind, inner, expected) in [
        // §2.3.
        ("get", "<list name='none'/>", "item-not-found"),
        ("get", "<list name='l'/><list name='l'/>", "bad-request"),
        ("get", "<list/>", "bad-request"),
        ("get", "<active name='l'/>", "bad-request"),
        // §2.1.
        ("set", "", "bad-request"),
        ("set", "<active name='l'/><default name='l'/>", "bad-request"),
        ("set", "<q xmlns='urn:example:q'/>", "bad-request"),
        ("set", "<list name='x'><item action='deny' order='1'/><item action='deny' order='1'/></list>", "bad-request"),
        ("set", "<list name='x'><item action='deny'/></list>", "bad-request"),
        ("set", "<list name='x'><item order='1'/></list>", "bad-request"),
        ("set", "<list name='x'><item type='jid' value='@@' action='deny' order='1'/></list>", "jid-malformed"),
        ("set", "<list name='x'><item type='group' value='None' action='deny' order='1'/></list>", "item-not-found"),
        ("set", "<list><item action='deny' order='1'/></list>", "bad-request"),
        // §2.4, §2.5, §2.8.
        ("set", "<active name='none'/>", "item-not-found"),
        ("set", "<default name='none'/>", "item-not-found"),
        ("set", "<list name='none'/>", "item-not-found"),
    ] {
        assert_eq!(refused(&mut client, kind, inner).await, expected, "{kind} {inner}");
    }
    assert_eq!(names(&mut client).await, (None, None, owned(&["l"])));
}

#[tokio::test]
async fn xep0016_2_2_rule_10_every_resource_learns_the_name_of_a_changed_list() {
    let server = verona().start().await;
    let mut one = juliet(&server, "one").await;
    let mut two = juliet(&server, "two").await;
    let mut romeo = romeo(&server, "orchard").await;
    for inner in [
        format!("<list name='l'>{EVERYBODY}</list>"),
        format!("<list name='l'>{ROMEO}</list>"),
        "<list name='l'/>".to_owned(),
    ] {
        set(&mut one, &inner).await;
        let push = two.element().await;
        assert_eq!(push.as_raw().attribute("type").as_deref(), Some("set"), "{}", two.transcript());
        let query = push.as_raw().child("query", NS).unwrap();
        let lists: Vec<_> = query.children().collect();
        let [list] = lists.as_slice() else { panic!("{}", two.transcript()) };
        assert_eq!((list.name(), list.attribute("name").as_deref()), ("list", Some("l")));
        assert_eq!(list.children().count(), 0);
        two.send(&format!("<iq type='result' id='{}'/>", push.as_raw().attribute("id").unwrap())).await;
    }
    romeo.expect_nothing().await;
}

#[tokio::test]
async fn xep0016_2_2_rule_11_a_list_that_applies_to_another_resource_stays() {
    let server = verona().start().await;
    let mut one = juliet(&server, "one").await;
    let mut two = juliet(&server, "two").await;
    for name in ["a", "b"] {
        set(&mut one, &format!("<list name='{name}'>{EVERYBODY}</list>")).await;
    }
    set(&mut two, "<active name='a'/>").await;
    assert_eq!(refused(&mut one, "set", "<list name='a'/>").await, "conflict");
    // It can still be edited (rule 8).
    set(&mut one, &format!("<list name='a'>{ROMEO}</list>")).await;
    set(&mut two, "<active/>").await;
    // The default list applies to whoever has none active.
    set(&mut one, "<default name='a'/>").await;
    for inner in ["<default name='b'/>", "<default/>", "<list name='a'/>"] {
        assert_eq!(refused(&mut one, "set", inner).await, "conflict", "{inner}");
    }
    set(&mut two, "<active name='b'/>").await;
    set(&mut one, "<default name='b'/>").await;
    set(&mut one, "<list name='a'/>").await;
    two.close().await;
    server.until("starling_sessions", |sessions| sessions < 2.0).await;
    set(&mut one, "<default/>").await;
    set(&mut one, "<list name='b'/>").await;
    assert_eq!(names(&mut one).await, (None, None, vec![]));
}

#[tokio::test]
async fn xep0016_2_9_to_2_14_what_a_list_denies_is_refused_as_if_nobody_were_there() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    // Per list: message in, iq in, message out.
    for (item, expected) in [
        (ROMEO.to_owned(), [false, false, false]),
        (ROMEO.replace("/>", "><message/></item>"), [false, true, true]),
        (ROMEO.replace("/>", "><iq/></item>"), [true, false, true]),
        (ROMEO.replace("/>", "><presence-in/><presence-out/></item>"), [true, true, true]),
        ("<item type='subscription' value='none' action='deny' order='1'/>".to_owned(), [false, false, false]),
        (NOBODY.to_owned(), [false, false, false]),
        (format!("<item type='jid' value='romeo@localhost' action='allow' order='1'/>{NOBODY}"), [true, true, true]),
        ("<item type='jid' value='paris@localhost' action='deny' order='1'/>".to_owned(), [true, true, true]),
    ] {
        apply(&mut juliet, &item).await;
        romeo.send(&message("juliet@localhost/balcony", "in")).await;
        romeo.send("<iq to='juliet@localhost/balcony' type='get' id='q'><q xmlns='urn:example:q'/></iq>").await;
        let back = all(&mut romeo).await;
        let conditions: Vec<_> = back.iter().map(|error| (error.as_raw().name(), condition(error))).collect();
        let expected_back: Vec<_> = [("message", expected[0]), ("iq", expected[1])]
            .into_iter()
            .filter(|(_, passes)| !passes)
            .map(|(name, _)| (name, Some("service-unavailable".to_owned())))
            .collect();
        assert_eq!(conditions, expected_back, "{item}\n{}", romeo.transcript());
        let came: Vec<_> = all(&mut juliet).await.iter().map(|came| came.as_raw().name().to_owned()).collect();
        let expected_in = [("message", expected[0]), ("iq", expected[1])].into_iter().filter(|(_, passes)| *passes);
        assert_eq!(came, expected_in.map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), "{item}");
        juliet.send(&message("romeo@localhost/orchard", "out")).await;
        let back = all(&mut juliet).await;
        if expected[2] {
            assert_eq!(body(&romeo.message().await), "out", "{item}");
        } else {
            assert_eq!(condition(&back[0]).as_deref(), Some("not-acceptable"), "{item}");
            // XEP-0191 §3.3: that condition is the block list's.
            assert!(back[0].as_raw().child("error", "jabber:client").unwrap().children().count() == 1);
        }
    }
}

#[tokio::test]
async fn xep0016_2_2_an_active_list_is_its_sessions_and_ends_with_it() {
    let server = verona().start().await;
    let (mut one, mut romeo) = both(&server).await;
    let mut two = juliet(&server, "two").await;
    for client in [&mut one, &mut two] {
        client.become_available(0).await;
    }
    apply(&mut one, ROMEO).await;
    all(&mut two).await;
    let refused = romeo.ask(&message("juliet@localhost/balcony", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
    romeo.send(&message("juliet@localhost/two", "!")).await;
    assert_eq!(body(&two.message().await), "!");
    // To the account: each of its sessions by its own list.
    romeo.send(&message("juliet@localhost", "both?")).await;
    romeo.expect_nothing().await;
    assert_eq!(body(&two.message().await), "both?");
    one.expect_nothing_but_presence().await;
    one.close().await;
    let mut one = juliet(&server, "balcony").await;
    assert_eq!(names(&mut one).await, (None, None, owned(&["l"])));
    romeo.send(&message("juliet@localhost/balcony", "again")).await;
    assert_eq!(body(&one.message().await), "again");
}

#[tokio::test]
async fn xep0016_2_2_the_default_list_holds_while_nobody_is_there_and_an_active_one_instead_of_it() {
    let server = verona().start().await;
    let (mut one, mut romeo) = both(&server).await;
    set(&mut one, &format!("<list name='d'>{ROMEO}</list>")).await;
    set(&mut one, &format!("<list name='open'>{EVERYBODY}</list>")).await;
    set(&mut one, "<default name='d'/>").await;
    let refused = romeo.ask(&message("juliet@localhost/balcony", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
    set(&mut one, "<active name='open'/>").await;
    romeo.send(&message("juliet@localhost/balcony", "!")).await;
    assert_eq!(body(&one.message().await), "!");
    one.close().await;
    server.until("starling_sessions", |sessions| sessions < 2.0).await;
    let refused = romeo.ask(&message("juliet@localhost", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
}

#[tokio::test]
async fn xep0016_2_2_rule_8_an_edited_list_applies_at_once() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    apply(&mut juliet, EVERYBODY).await;
    romeo.send(&message("juliet@localhost/balcony", "!")).await;
    assert_eq!(body(&juliet.message().await), "!");
    set(&mut juliet, &format!("<list name='l'>{ROMEO}</list>")).await;
    let refused = romeo.ask(&message("juliet@localhost/balcony", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
}

#[tokio::test]
async fn xep0016_2_2_rule_9_a_list_follows_the_roster() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    let group = |groups: &str| {
        format!(
            "<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='romeo@localhost'>{groups}</item></query></iq>"
        )
    };
    juliet.send(&group("<group>Enemies</group>")).await;
    juliet.until_quiet().await;
    apply(&mut juliet, "<item type='group' value='Enemies' action='deny' order='1'/>").await;
    let refused = romeo.ask(&message("juliet@localhost/balcony", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
    juliet.send(&group("<group>Friends</group>")).await;
    juliet.until_quiet().await;
    romeo.send(&message("juliet@localhost/balcony", "!")).await;
    assert_eq!(body(&juliet.message().await), "!");
}

#[tokio::test]
async fn xep0016_2_10_2_11_presence_is_denied_each_way_by_itself() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet.become_available(0).await;
    romeo.become_available(0).await;
    befriend(&mut juliet, &mut romeo).await;
    set(&mut juliet, &format!("<list name='out'>{}</list>", ROMEO.replace("/>", "><presence-out/></item>"))).await;
    set(&mut juliet, &format!("<list name='in'>{}</list>", ROMEO.replace("/>", "><presence-in/></item>"))).await;
    set(&mut juliet, "<active name='out'/>").await;
    romeo.until_presence("juliet@localhost/balcony", Some("unavailable")).await;
    juliet.send("<presence><status>waits</status></presence>").await;
    romeo.send("<presence><status>wanders</status></presence>").await;
    juliet.until_presence("romeo@localhost/orchard", None).await;
    assert!(romeo.until_quiet().await.iter().all(|seen| !from(seen).starts_with("juliet")), "{}", romeo.transcript());
    let mut seen = set(&mut juliet, "<active name='in'/>").await;
    seen.extend(all(&mut juliet).await);
    let gone = seen.iter().find(|seen| from(seen) == "romeo@localhost/orchard").unwrap();
    assert_eq!(gone.as_raw().attribute("type").as_deref(), Some("unavailable"));
    romeo.until_presence("juliet@localhost/balcony", None).await;
    romeo.send("<presence><status>is banished</status></presence>").await;
    romeo.until_quiet().await;
    assert!(juliet.until_quiet().await.iter().all(|seen| !from(seen).starts_with("romeo")), "{}", juliet.transcript());
}

fn from(element: &Element) -> String {
    element.as_raw().attribute("from").unwrap_or_default().into_owned()
}

/// XEP-0016 §2.1, note: an implementation must not block one resource of a user from another.
#[tokio::test]
async fn xep0016_2_1_a_list_never_stands_between_a_users_own_resources_or_the_server() {
    let server = verona().start().await;
    let mut one = juliet(&server, "one").await;
    let mut two = juliet(&server, "two").await;
    apply(&mut one, NOBODY).await;
    all(&mut two).await;
    one.send(&message("juliet@localhost/two", "Ay me")).await;
    assert_eq!(body(&two.message().await), "Ay me");
    two.send(&message("juliet@localhost/one", "He jests")).await;
    assert_eq!(body(&one.message().await), "He jests");
    one.expect_nothing().await;
}

#[tokio::test]
async fn thirty_two_lists_can_be_kept_and_not_one_more() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for n in 0..32 {
        set(&mut client, &format!("<list name='{n}'>{EVERYBODY}</list>")).await;
    }
    assert_eq!(
        refused(&mut client, "set", &format!("<list name='32'>{EVERYBODY}</list>")).await,
        "resource-constraint"
    );
    set(&mut client, &format!("<list name='7'>{NOBODY}</list>")).await;
}

#[tokio::test]
async fn lists_and_block_list_survive_the_server() {
    let mut server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    set(&mut client, &format!("<list name='d'>{ROMEO}</list>")).await;
    set(&mut client, "<default name='d'/>").await;
    client
        .send("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='paris@localhost'/></block></iq>")
        .await;
    client.until_quiet().await;
    server.kill9();
    server.start_again().await;
    let (mut client, mut romeo) = both(&server).await;
    assert_eq!(names(&mut client).await, (None, Some("d".to_owned()), owned(&["d"])));
    let refused = romeo.ask(&message("juliet@localhost/balcony", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
    let list = client.ask("<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>").await;
    let list = list.as_raw().child("blocklist", "urn:xmpp:blocking").unwrap();
    assert_eq!(list.children().next().unwrap().attribute("jid").as_deref(), Some("paris@localhost"));
}
