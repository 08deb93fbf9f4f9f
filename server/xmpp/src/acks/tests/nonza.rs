use starling_xml::{Frame, Limits, Reader};

use crate::{
    Condition, StreamCondition, StreamError,
    acks::{
        TooHigh,
        nonza::{self, Nonza, NonzaError},
    },
};

/// What is read of an element that a client sends in its stream.
fn read<T>(text: &str, look: impl FnOnce(Result<Option<Nonza<'_>>, NonzaError>) -> T) -> T {
    let stream = format!("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>{text}");
    let (mut reader, mut input) = (Reader::new(Limits::default()), stream.as_bytes());
    assert!(matches!(reader.read(&mut input), Ok(Some(Frame::Open(_)))));
    match reader.read(&mut input) {
        Ok(Some(Frame::Element(element))) => look(nonza::parse(&element)),
        other => panic!("{other:?}"),
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn xep0198_what_a_client_may_send() {
    for (text, expected) in [
        ("<enable xmlns='urn:xmpp:sm:3'/>", Nonza::Enable { resume: false, max: None }),
        ("<enable xmlns='urn:xmpp:sm:3' resume='true'/>", Nonza::Enable { resume: true, max: None }),
        ("<enable xmlns='urn:xmpp:sm:3' resume='1' max='60'/>", Nonza::Enable { resume: true, max: Some(60) }),
        ("<enable xmlns='urn:xmpp:sm:3' resume='0' max='x'/>", Nonza::Enable { resume: false, max: None }),
        ("<resume xmlns='urn:xmpp:sm:3' h='0' previd='a&amp;b'/>", Nonza::Resume { previd: "a&b".into(), h: 0 }),
        ("<s:r xmlns:s='urn:xmpp:sm:3'/>", Nonza::Request),
        ("<a xmlns='urn:xmpp:sm:3' h='4294967295'/>", Nonza::Answer { h: u32::MAX }),
        ("<a xmlns='urn:xmpp:sm:3' h=' 007 '/>", Nonza::Answer { h: 7 }),
    ] {
        read(text, |nonza| assert_eq!(nonza, Ok(Some(expected)), "{text}"));
    }
}

#[test]
fn what_is_in_another_namespace_is_not_read() {
    for text in ["<r/>", "<a xmlns='urn:xmpp:sm:2' h='1'/>", "<message/>"] {
        read(text, |nonza| assert_eq!(nonza, Ok(None), "{text}"));
    }
}

#[test]
fn what_is_wrong_is_told() {
    use NonzaError::{AnswerWithoutH, ResumeWithoutH, ResumeWithoutPrevid, Unknown};
    for (text, expected) in [
        ("<a xmlns='urn:xmpp:sm:3'/>", AnswerWithoutH),
        ("<a xmlns='urn:xmpp:sm:3' h=''/>", AnswerWithoutH),
        ("<a xmlns='urn:xmpp:sm:3' h='-1'/>", AnswerWithoutH),
        ("<a xmlns='urn:xmpp:sm:3' h='4294967296'/>", AnswerWithoutH),
        ("<resume xmlns='urn:xmpp:sm:3' previd='x'/>", ResumeWithoutH),
        ("<resume xmlns='urn:xmpp:sm:3' previd='x' h='one'/>", ResumeWithoutH),
        ("<resume xmlns='urn:xmpp:sm:3' h='1'/>", ResumeWithoutPrevid),
        ("<enabled xmlns='urn:xmpp:sm:3'/>", Unknown),
        ("<resumed xmlns='urn:xmpp:sm:3' previd='x' h='1'/>", Unknown),
    ] {
        read(text, |nonza| assert_eq!(nonza, Err(expected), "{text}"));
    }
    assert_eq!(ResumeWithoutPrevid.failed(), Some(Condition::BadRequest));
    for (error, condition) in
        [(AnswerWithoutH, StreamCondition::BadFormat), (Unknown, StreamCondition::UnsupportedStanzaType)]
    {
        assert_eq!(error.failed(), None);
        assert_eq!(StreamError::from(error).condition, condition);
    }
}

#[test]
fn xep0198_what_a_server_writes() {
    assert_eq!(written(|out| nonza::write_enabled(None, out)), "<enabled xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(
        written(|out| nonza::write_enabled(Some(("a<b", 300)), out)),
        "<enabled xmlns='urn:xmpp:sm:3' id='a&lt;b' max='300' resume='true'/>"
    );
    assert_eq!(
        written(|out| nonza::write_resumed("it's", 4_294_967_295, out)),
        "<resumed xmlns='urn:xmpp:sm:3' previd='it&apos;s' h='4294967295'/>"
    );
    assert_eq!(
        written(|out| nonza::write_failed(Condition::ItemNotFound, Some(7), out)),
        "<failed xmlns='urn:xmpp:sm:3' h='7'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    );
    assert_eq!(
        written(|out| nonza::write_failed(Condition::UnexpectedRequest, None, out)),
        "<failed xmlns='urn:xmpp:sm:3'><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    );
    assert_eq!(written(|out| nonza::write_answer(0, out)), "<a xmlns='urn:xmpp:sm:3' h='0'/>");
    assert_eq!(written(nonza::write_request), "<r xmlns='urn:xmpp:sm:3'/>");
}

#[test]
fn xep0198_4_handled_count_too_high_is_a_stream_error() {
    let text = written(|out| nonza::write_handled_count_too_high(&TooHigh { h: 10, sent: 8 }, out));
    let mut read = false;
    let stream = format!("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>{text}");
    let (mut reader, mut input) = (Reader::new(Limits::default()), stream.as_bytes());
    while let Ok(Some(frame)) = reader.read(&mut input) {
        if let Frame::Element(element) = frame {
            read = true;
            assert_eq!(StreamError::parse(&element).unwrap().condition, StreamCondition::UndefinedCondition);
            let special = element.child("handled-count-too-high", "urn:xmpp:sm:3").unwrap();
            assert_eq!(special.attribute("h").unwrap(), "10");
            assert_eq!(special.attribute("send-count").unwrap(), "8");
        }
    }
    assert!(read);
}
