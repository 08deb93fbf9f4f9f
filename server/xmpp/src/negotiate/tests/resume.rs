//! XEP-0198 before a resource is bound.

use starling_xml::Scope;

use super::*;

fn authenticated(account: &str) -> Accept {
    Accept::authenticated(policy(TlsPolicy::Off), account.parse().unwrap())
}

fn say(accept: &mut Accept, element: &str) -> (Result<Next, StreamCondition>, String) {
    let element = starling_xml::parse(element, &Scope::client(), Limits::default()).unwrap();
    let mut out = Vec::new();
    let next = accept.handle(Input::Element(element.as_raw()), &mut out).map_err(|error| error.condition);
    (next, String::from_utf8(out).unwrap())
}

#[test]
fn xep0198_5_a_session_is_fetched_and_resumed() {
    let mut accept = authenticated("juliet@a.example");
    let (next, out) = say(&mut accept, "<resume xmlns='urn:xmpp:sm:3' previd='x&amp;y' h='7'/>");
    let Ok(Next::Resume { account, previd, h: 7 }) = next else { panic!("{next:?}") };
    assert_eq!((account.as_str(), previd.as_str(), out.as_str()), ("juliet@a.example", "x&y", ""));
    let mut out = Vec::new();
    assert!(matches!(accept.handle(Input::Resumed(9), &mut out), Ok(Next::Resumed)));
    assert_eq!(String::from_utf8(out).unwrap(), "<resumed xmlns='urn:xmpp:sm:3' previd='x&amp;y' h='9'/>");
}

#[test]
fn xep0198_5_what_cannot_be_resumed_is_told_and_a_resource_may_be_bound() {
    let mut accept = authenticated("juliet@a.example");
    say(&mut accept, "<resume xmlns='urn:xmpp:sm:3' previd='x' h='7'/>").0.unwrap();
    let mut out = Vec::new();
    assert!(matches!(accept.handle(Input::ResumeRefused(Some(4)), &mut out), Ok(Next::Read)));
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("<failed xmlns='urn:xmpp:sm:3' h='4'><item-not-found "), "{out}");
    let bind = "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    assert!(matches!(say(&mut accept, bind).0, Ok(Next::Bind { .. })));
}

#[test]
fn xep0198_3_before_a_resource_is_bound_there_is_nothing_to_manage() {
    for element in ["<enable xmlns='urn:xmpp:sm:3'/>", "<r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='0'/>"]
    {
        let (next, out) = say(&mut authenticated("juliet@a.example"), element);
        assert!(matches!(next, Ok(Next::Read)) && out.contains("<unexpected-request "), "{element}: {out}");
    }
    let (next, out) = say(&mut authenticated("juliet@a.example"), "<resume xmlns='urn:xmpp:sm:3' previd='x'/>");
    assert!(matches!(next, Ok(Next::Read)) && out.contains("<bad-request "), "{out}");
    assert!(say(&mut authenticated("juliet@a.example"), "<resumed xmlns='urn:xmpp:sm:3'/>").0.is_err());
}
