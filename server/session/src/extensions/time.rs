//! XEP-0202: Entity Time, of the server: always in UTC, so that nothing tells where it stands.

use std::time::SystemTime;

use minidom::Element;

use crate::{
    extension::{Extension, Request, Scope, Standard, Verdict},
    stamp::date_time,
};

const NAMESPACE: &str = "urn:xmpp:time";

pub(super) struct Time;

impl Extension for Time {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0202", version: "2.0", shown_by: "protocol/time.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq[@type='get']/time[@xmlns='urn:xmpp:time']"]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server => &[NAMESPACE],
            Scope::OwnAccount | Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        if request.scope != Scope::Server {
            return Verdict::Pass;
        }
        let element = |name, text: &str| Element::builder(name, NAMESPACE).append(text).build();
        let now = date_time(SystemTime::now());
        let time = Element::builder("time", NAMESPACE).append(element("tzo", "+00:00")).append(element("utc", &now));
        Verdict::Answer(Ok(Some(time.build())))
    }
}
