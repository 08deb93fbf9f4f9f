//! XEP-0030: Service Discovery, of the server and of one's own account.

use minidom::Element;
use starling_xmpp::{error::Condition, ns};
use xmpp_parsers::disco::{DiscoInfoResult, DiscoItemsResult, Identity};

use crate::extension::{Answer, Extension, Request, Scope, Standard, Verdict};

pub(super) struct Disco;

impl Extension for Disco {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0030", version: "2.5.0", shown_by: "xep0030_disco.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &[
            "/iq[@type='get']/query[@xmlns='http://jabber.org/protocol/disco#info']",
            "/iq[@type='get']/query[@xmlns='http://jabber.org/protocol/disco#items']",
        ]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server | Scope::OwnAccount => &[ns::DISCO_INFO, ns::DISCO_ITEMS],
            Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        // §8: whether another account exists is not disclosed to those without a subscription.
        if request.scope == Scope::OtherAccount {
            return Verdict::Pass;
        }
        Verdict::Answer(answer(request))
    }
}

fn answer(request: &Request<'_>) -> Answer {
    let iq = request.stanza.raw.to_tree().map_err(|_| Condition::BadRequest)?;
    let query = iq.children().next().ok_or(Condition::BadRequest)?;
    // §3.3: there are no nodes here.
    if query.attr("node").is_some_and(|node| !node.is_empty()) {
        return Err(Condition::ItemNotFound.into());
    }
    let items = || DiscoItemsResult { node: None, items: Vec::new(), rsm: None }.into();
    Ok(Some(if query.is("query", ns::DISCO_INFO) { info(request) } else { items() }))
}

fn info(request: &Request<'_>) -> Element {
    let (category, kind, name) = match request.scope {
        Scope::Server => ("server", "im", Some("Starling".to_owned())),
        Scope::OwnAccount | Scope::OtherAccount => ("account", "registered", None),
    };
    let identity = Identity { category: category.to_owned(), type_: kind.to_owned(), lang: None, name };
    let features = request.service.extensions().features(request.scope);
    DiscoInfoResult {
        node: None,
        identities: vec![identity],
        features: features.into_iter().map(str::to_owned).collect(),
        extensions: Vec::new(),
    }
    .into()
}
