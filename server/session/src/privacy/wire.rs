//! Items of the two standards, from elements and back.

use minidom::{
    Element,
    rxml::{Namespace, NcName},
};
use starling_xmpp::{
    error::{Condition, StanzaError},
    jid::{self, Jid},
};

use super::{BLOCKING, Item, List, PRIVACY, Stanzas, Subject, Subscription};

/// Rules of one list; more are refused with `resource-constraint`.
const ITEMS: usize = 1000;

/// `<name name='…'/>` of XEP-0016.
pub(crate) fn named(name: &str, value: &str) -> Element {
    let mut element = Element::bare(name, PRIVACY);
    set(&mut element, "name", value);
    element
}

/// `<item jid='…'/>` of XEP-0191.
pub(crate) fn blocked_element(address: &Jid) -> Element {
    let mut item = Element::bare("item", BLOCKING);
    set(&mut item, "jid", address.as_str());
    item
}

/// `<list name='…'>` with its items.
pub(crate) fn list_element(list: &List) -> Element {
    let mut element = named("list", &list.name);
    for item in &list.items {
        element.append_child(item_element(item));
    }
    element
}

/// `<item/>` of XEP-0016 §2.1.
pub(crate) fn item_element(item: &Item) -> Element {
    let mut element = Element::bare("item", PRIVACY);
    let (kind, value) = match &item.subject {
        Subject::Jid(jid) => (Some("jid"), jid.as_str()),
        Subject::Group(group) => (Some("group"), group.as_str()),
        Subject::Subscription(subscription) => (Some("subscription"), subscription_name(*subscription)),
        Subject::Everybody => (None, ""),
    };
    if let Some(kind) = kind {
        set(&mut element, "type", kind);
        set(&mut element, "value", value);
    }
    set(&mut element, "action", if item.allow { "allow" } else { "deny" });
    set(&mut element, "order", &item.order.to_string());
    let Stanzas { message, iq, presence_in, presence_out } = item.stanzas;
    let kinds = [("message", message), ("iq", iq), ("presence-in", presence_in), ("presence-out", presence_out)];
    for (name, _) in kinds.into_iter().filter(|(_, meant)| *meant) {
        element.append_child(Element::bare(name, PRIVACY));
    }
    element
}

/// Reads `<list name='…'>` with its items, which come out in ascending order.
///
/// # Errors
/// `bad-request` for what XEP-0016 §2.1 does not allow, `jid-malformed`, `resource-constraint`.
pub(crate) fn read_list(list: &Element) -> Result<List, StanzaError> {
    let name = list.attr("name").ok_or(Condition::BadRequest)?.to_owned();
    let mut items = Vec::new();
    for child in list.children() {
        if items.len() == ITEMS {
            return Err(Condition::ResourceConstraint.into());
        }
        items.push(read_item(child)?);
    }
    items.sort_by_key(|item| item.order);
    if items.windows(2).any(|pair| matches!(pair, [one, next] if one.order == next.order)) {
        return Err(Condition::BadRequest.into());
    }
    Ok(List { name, items })
}

fn read_item(element: &Element) -> Result<Item, StanzaError> {
    if !element.is("item", PRIVACY) {
        return Err(Condition::BadRequest.into());
    }
    let order = element.attr("order").and_then(|order| order.parse().ok()).ok_or(Condition::BadRequest)?;
    let allow = match element.attr("action") {
        Some("allow") => true,
        Some("deny") => false,
        _ => return Err(Condition::BadRequest.into()),
    };
    let value = || element.attr("value").ok_or(Condition::BadRequest);
    let subject = match element.attr("type") {
        None => Subject::Everybody,
        Some("jid") => Subject::Jid(jid::parse(value()?).map_err(|_| Condition::JidMalformed)?),
        Some("group") => Subject::Group(value()?.to_owned()),
        Some("subscription") => Subject::Subscription(read_subscription(value()?).ok_or(Condition::BadRequest)?),
        Some(_) => return Err(Condition::BadRequest.into()),
    };
    let mut stanzas = Stanzas::default();
    for child in element.children() {
        let meant = match child.name() {
            "message" => &mut stanzas.message,
            "iq" => &mut stanzas.iq,
            "presence-in" => &mut stanzas.presence_in,
            "presence-out" => &mut stanzas.presence_out,
            _ => return Err(Condition::BadRequest.into()),
        };
        *meant = child.ns() == PRIVACY;
        if !*meant {
            return Err(Condition::BadRequest.into());
        }
    }
    Ok(Item { order, subject, allow, stanzas })
}

const fn subscription_name(subscription: Subscription) -> &'static str {
    match subscription {
        Subscription::None => "none",
        Subscription::To => "to",
        Subscription::From => "from",
        Subscription::Both => "both",
    }
}

fn read_subscription(name: &str) -> Option<Subscription> {
    match name {
        "none" => Some(Subscription::None),
        "to" => Some(Subscription::To),
        "from" => Some(Subscription::From),
        "both" => Some(Subscription::Both),
        _ => None,
    }
}

fn set(element: &mut Element, name: &'static str, value: &str) {
    // The names are this file's own.
    if let Ok(name) = NcName::try_from(name) {
        element.set_attr(Namespace::NONE, name, value);
    }
}
