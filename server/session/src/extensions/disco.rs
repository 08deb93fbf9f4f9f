//! XEP-0030: Service Discovery, of the server and of one's own account.

use minidom::Element;
use starling_xmpp::{error::Condition, ns};
use xmpp_parsers::disco::{DiscoInfoResult, DiscoItemsResult, Identity};

use super::caps;
use crate::extension::{Answer, Extension, Extensions, Request, Scope, Standard, Verdict};

/// What the server is: category, type and name.
pub(super) const IDENTITY: (&str, &str, &str) = ("server", "im", "Starling");

pub(super) struct Disco;

impl Extension for Disco {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0030", version: "2.5.0", shown_by: "protocol/extensions.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &[
            "/iq[@type='get']/query[@xmlns='http://jabber.org/protocol/disco#info']",
            "/iq[@type='get']/query[@xmlns='http://jabber.org/protocol/disco#items']",
        ]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            // XEP-0160 §4: messages wait for those who are not there.
            Scope::Server => &[ns::DISCO_INFO, ns::DISCO_ITEMS, "msgoffline"],
            Scope::OwnAccount => &[ns::DISCO_INFO, ns::DISCO_ITEMS],
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
    let node = query.attr("node").filter(|node| !node.is_empty());
    if query.is("query", ns::DISCO_INFO) {
        // §3.3: the only node is the one by which the server's capabilities are known (XEP-0115 §6.2).
        let is_known = |node| request.scope == Scope::Server && caps::is_own_node(request.service.extensions(), node);
        return match node {
            Some(node) if !is_known(node) => Err(Condition::ItemNotFound.into()),
            node => Ok(Some(info(request, node))),
        };
    }
    match node {
        Some(_) => Err(Condition::ItemNotFound.into()),
        None => Ok(Some(DiscoItemsResult { node: None, items: Vec::new(), rsm: None }.into())),
    }
}

fn info(request: &Request<'_>, node: Option<&str>) -> Element {
    let (category, kind, name) = match request.scope {
        Scope::Server => (IDENTITY.0, IDENTITY.1, Some(IDENTITY.2.to_owned())),
        Scope::OwnAccount | Scope::OtherAccount => ("account", "registered", None),
    };
    let identity = Identity { category: category.to_owned(), type_: kind.to_owned(), lang: None, name };
    let features = request.service.extensions().features(request.scope);
    DiscoInfoResult {
        node: node.map(str::to_owned),
        identities: vec![identity],
        features: features.into_iter().map(str::to_owned).collect(),
        extensions: Vec::new(),
    }
    .into()
}

/// What the server announces, sorted.
pub(super) fn server_features(extensions: &Extensions) -> Vec<&'static str> {
    extensions.features(Scope::Server)
}
