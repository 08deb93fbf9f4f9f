//! What a stanza costs before anybody decides where it goes.
#![allow(clippy::unwrap_used, reason = "what is measured is known to be good")]

use divan::{Bencher, black_box};
use starling_xml::{Limits, OwnedElement, Scope, parse};
use starling_xmpp::{Stanza, jid::AddressCache};

fn main() {
    divan::main();
}

fn element(text: &str) -> OwnedElement {
    parse(text, &Scope::client(), Limits::default()).unwrap()
}

const MESSAGE: &str = "<message to='juliet@example.com/balcony' type='chat' id='m-4711'>\
    <body>Wherefore art thou?</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>";
const IQ: &str = "<iq to='juliet@example.com/balcony' from='romeo@example.net/orchard' type='get' id='q1'>\
    <ping xmlns='urn:xmpp:ping'/></iq>";

#[divan::bench(args = [MESSAGE, IQ])]
fn addresses_known(bencher: Bencher<'_, '_>, text: &str) {
    let (element, mut cache) = (element(text), AddressCache::new());
    bencher.bench_local(|| Stanza::parse_with(black_box(element.as_raw()), &mut cache).is_ok());
}

#[divan::bench(args = [MESSAGE, IQ])]
fn addresses_new(bencher: Bencher<'_, '_>, text: &str) {
    let element = element(text);
    bencher.bench_local(|| Stanza::parse(black_box(element.as_raw())).is_ok());
}
