//! What it costs to find out which containers a stanza concerns: 32 paths, as a server's extensions would subscribe by.

use divan::{Bencher, black_box};
use starling_xml::{Limits, OwnedElement, Scope, parse, path::PathSet};

fn main() {
    divan::main();
}

/// 24 on `iq`, 8 on `message`, as a server has them.
fn paths() -> Vec<String> {
    let mut paths: Vec<String> = [
        "jabber:iq:roster",
        "jabber:iq:private",
        "jabber:iq:version",
        "jabber:iq:last",
        "http://jabber.org/protocol/disco#info",
        "http://jabber.org/protocol/disco#items",
        "urn:xmpp:mam:2",
        "urn:xmpp:blocking",
    ]
    .iter()
    .flat_map(|namespace| {
        [
            format!("/iq[@type='get']/query[@xmlns='{namespace}']"),
            format!("/iq[@type='set']/query[@xmlns='{namespace}']"),
            format!("/iq[@type='set']/*[@xmlns='{namespace}#owner']"),
        ]
    })
    .collect();
    paths.extend(
        [
            "/message/body",
            "/message[@type='groupchat']/body",
            "/message[body and not(@type='groupchat' or @type='error')]",
            "/message/private[@xmlns='urn:xmpp:carbons:2']",
            "/message/*[@xmlns='urn:xmpp:hints']",
            "/message/request[@xmlns='urn:xmpp:receipts']",
            "/message/*[@xmlns='http://jabber.org/protocol/chatstates']",
            "/message/event[@xmlns='http://jabber.org/protocol/pubsub#event']",
        ]
        .map(str::to_owned),
    );
    paths
}

fn set(of: impl IntoIterator<Item = String>) -> PathSet {
    let paths: Vec<String> = of.into_iter().collect();
    PathSet::compile(paths.iter().map(String::as_str)).expect("paths")
}

fn element(text: &str) -> OwnedElement {
    parse(text, &Scope::client(), Limits::default()).expect("an element")
}

/// 300 bytes, as a client sends it.
const MESSAGE: &str = "<message to='juliet@example.com/balcony' from='romeo@example.net/orchard' type='chat' id='5f3c9a71'>\
    <body>Wherefore art thou, and why does the night take so long to become a day again?</body>\
    <active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/></message>";

const IQ: &str = "<iq type='get' id='7' to='example.com'><query xmlns='urn:xmpp:mam:2' queryid='f27'/></iq>";

#[divan::bench(sample_size = 1000)]
fn message_of_300_bytes(bencher: Bencher<'_, '_>) {
    bench(bencher, &set(paths()), MESSAGE);
}

#[divan::bench(sample_size = 1000)]
fn message_with_body_path_only(bencher: Bencher<'_, '_>) {
    bench(bencher, &set(["/message/body".to_owned()]), MESSAGE);
}

#[divan::bench(sample_size = 1000)]
fn message_searched_to_its_depths(bencher: Bencher<'_, '_>) {
    bench(bencher, &set(["//x[@xmlns='jabber:x:data']".to_owned()]), MESSAGE);
}

#[divan::bench(sample_size = 1000)]
fn iq_of_100_bytes(bencher: Bencher<'_, '_>) {
    bench(bencher, &set(paths()), IQ);
}

#[divan::bench(sample_size = 1000)]
fn iq_result_that_no_path_wants(bencher: Bencher<'_, '_>) {
    bench(bencher, &set(paths()), "<iq type='result' id='7' to='example.com'><query xmlns='urn:xmpp:mam:2'/></iq>");
}

#[divan::bench(sample_size = 1000)]
fn presence_that_no_path_wants(bencher: Bencher<'_, '_>) {
    bench(bencher, &set(paths()), "<presence to='juliet@example.com'><show>away</show></presence>");
}

#[divan::bench(sample_size = 1000)]
fn tree_of_300_bytes(bencher: Bencher<'_, '_>) {
    let set = set(paths());
    let tree = element(MESSAGE).as_raw().to_tree().expect("a tree");
    bencher.bench(|| black_box(&set).evaluate_tree(black_box(&tree)));
}

#[divan::bench(sample_size = 1000)]
fn to_tree_of_300_bytes(bencher: Bencher<'_, '_>) {
    let element = element(MESSAGE);
    bencher.bench(|| black_box(&element).as_raw().to_tree());
}

fn bench(bencher: Bencher<'_, '_>, set: &PathSet, text: &str) {
    let element = element(text);
    bencher.bench(|| black_box(set).evaluate(&black_box(&element).as_raw()));
}
