//! XEP-0092: Software Version, of the server. What it runs on is nobody's business (§4): there is no `<os/>`.

use xmpp_parsers::version::VersionResult;

use crate::extension::{Extension, Request, Scope, Standard, Verdict};

pub(super) struct Version;

impl Extension for Version {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0092", version: "1.1", shown_by: "protocol/version.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq[@type='get']/query[@xmlns='jabber:iq:version']"]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server => &["jabber:iq:version"],
            Scope::OwnAccount | Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        if request.scope != Scope::Server {
            return Verdict::Pass;
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Verdict::Answer(Ok(Some(VersionResult { name: "Starling".to_owned(), version, os: None }.into())))
    }
}
