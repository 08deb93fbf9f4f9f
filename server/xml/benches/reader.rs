//! What it costs to find a stanza in a stream, to read its header, and to write it into another stream.

use divan::{Bencher, black_box, counter::BytesCount};
use starling_xml::{Frame, Limits, OwnedElement, Reader, Scope, parse, restamp};

fn main() {
    divan::main();
}

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='example.net'>";

/// 300 bytes, as a client sends it: a body and one extension.
const MESSAGE: &str = "<message to='juliet@example.com/balcony' from='romeo@example.net/orchard' type='chat' id='5f3c9a71'>\
    <body>Wherefore art thou, and why does the night take so very long to become another day again?</body>\
    <request xmlns='urn:xmpp:receipts'/></message>";

const PREFIXED: &str = "<c:message xmlns:c='jabber:client' to='juliet@example.com/balcony' type='chat'>\
    <c:body>Wherefore art thou, and why does the night take so very long to become another day again?</c:body>\
    <request xmlns='urn:xmpp:receipts'/></c:message>";

/// An answer of a roster with 200 contacts: many small elements.
fn roster() -> String {
    let items: String = (0..200)
        .map(|n| format!("<item jid='contact{n}@example.com' name='Contact {n}' subscription='both'><group>Friends</group></item>"))
        .collect();
    format!("<iq type='result' id='r1'><query xmlns='jabber:iq:roster' ver='7'>{items}</query></iq>")
}

fn opened() -> Reader {
    let mut reader = Reader::new(Limits::default());
    let mut input = HEADER.as_bytes();
    assert!(matches!(reader.read(&mut input), Ok(Some(Frame::Open(_)))));
    reader
}

fn element(text: &str) -> OwnedElement {
    parse(text, &Scope::client(), Limits::default()).expect("an element")
}

/// Reads one element that comes in pieces of `size` bytes.
fn read(reader: &mut Reader, text: &str, size: usize) -> usize {
    let mut found = 0;
    for mut piece in text.as_bytes().chunks(size) {
        while let Ok(Some(frame)) = reader.read(&mut piece) {
            if let Frame::Element(raw) = frame {
                found += black_box(raw).as_str().len();
            }
        }
    }
    found
}

#[divan::bench]
fn message_whole(bencher: Bencher<'_, '_>) {
    let mut reader = opened();
    bencher.counter(BytesCount::of_str(MESSAGE)).bench_local(|| read(&mut reader, black_box(MESSAGE), usize::MAX));
}

#[divan::bench]
fn message_in_two_reads(bencher: Bencher<'_, '_>) {
    let mut reader = opened();
    bencher.counter(BytesCount::of_str(MESSAGE)).bench_local(|| read(&mut reader, black_box(MESSAGE), 150));
}

#[divan::bench]
fn message_byte_by_byte(bencher: Bencher<'_, '_>) {
    let mut reader = opened();
    bencher.counter(BytesCount::of_str(MESSAGE)).bench_local(|| read(&mut reader, black_box(MESSAGE), 1));
}

#[divan::bench]
fn roster_whole(bencher: Bencher<'_, '_>) {
    let mut reader = opened();
    let roster = roster();
    bencher.counter(BytesCount::of_str(&roster)).bench_local(|| read(&mut reader, black_box(&roster), usize::MAX));
}

#[divan::bench]
fn body_of_60_kib(bencher: Bencher<'_, '_>) {
    let mut reader = opened();
    let text = format!("<message to='a@b'><body>{}</body></message>", "lorem ipsum ".repeat(5_120));
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| read(&mut reader, black_box(&text), usize::MAX));
}

#[divan::bench]
fn stream_header(bencher: Bencher<'_, '_>) {
    let mut reader = Reader::new(Limits::default());
    bencher.bench_local(|| {
        reader.restart();
        let mut input = black_box(HEADER.as_bytes());
        matches!(reader.read(&mut input), Ok(Some(Frame::Open(_))))
    });
}

#[divan::bench]
fn header_attributes(bencher: Bencher<'_, '_>) {
    let message = element(MESSAGE);
    bencher.bench_local(|| {
        let raw = black_box(&message).as_raw();
        let found = ["to", "from", "type", "id"].map(|name| raw.attribute(name));
        (raw.name(), raw.namespace(), found, raw.lang())
    });
}

#[divan::bench]
fn find_last_child(bencher: Bencher<'_, '_>) {
    let message = element(MESSAGE);
    bencher.bench_local(|| black_box(&message).as_raw().child("request", "urn:xmpp:receipts").is_some());
}

#[divan::bench]
fn restamp_from(bencher: Bencher<'_, '_>) {
    let message = element(MESSAGE);
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        restamp(&black_box(&message).as_raw(), &[("from", Some("romeo@example.net/orchard"))], &mut out);
        out.len()
    });
}

#[divan::bench]
fn restamp_prefixed(bencher: Bencher<'_, '_>) {
    let message = element(PREFIXED);
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        restamp(&black_box(&message).as_raw(), &[("from", Some("romeo@example.net/orchard"))], &mut out);
        out.len()
    });
}
