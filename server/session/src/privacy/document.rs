//! An account's lists as the store keeps them: one document, in the elements of the two standards.

use std::sync::Arc;

use minidom::Element;
use starling_store::{Error, Store};
use starling_xml::{Limits, Scope, Writer, parse};
use starling_xmpp::jid::{self, BareJid};

use super::{BLOCKING, List, Lists, PRIVACY, wire};

/// The kind of document.
const KIND: &str = "privacy";
/// There is one per account.
const KEY: &str = "";
/// What an account's lists may take, in bytes. One more rule is refused with `resource-constraint`.
const LIMIT: usize = 256 << 10;
/// The namespace of the document's root, which no stream ever sees.
const ROOT: &str = "urn:starling:privacy:0";

/// An account's lists as they were read.
pub(super) struct Read {
    pub(super) lists: Lists,
    bytes: Vec<u8>,
}

/// What became of lists that were to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saved {
    /// They are written.
    Yes,
    /// They are too large.
    TooLarge,
    /// They are not as they were read any more, or there is no such account.
    Changed,
}

/// Reads an account's lists. `None`: it has none.
pub(super) async fn load(store: &Arc<dyn Store>, account: &BareJid) -> Result<Option<Read>, Error> {
    match store.document(account, KIND, KEY).await? {
        None => Ok(None),
        Some(bytes) => match read(&bytes) {
            Some(lists) => Ok(Some(Read { lists, bytes })),
            None => Err(Error::Corrupt(format!("privacy lists of {account}"))),
        },
    }
}

/// Writes an account's lists in the place of what was read.
pub(super) async fn save(
    store: &Arc<dyn Store>,
    account: &BareJid,
    before: Option<&Read>,
    lists: &Lists,
) -> Result<Saved, Error> {
    let after = (!lists.is_empty()).then(|| write(lists));
    if after.as_ref().is_some_and(|after| after.len() > LIMIT) {
        return Ok(Saved::TooLarge);
    }
    let before = before.map(|read| &*read.bytes);
    let is_done = store.swap_document(account, KIND, KEY, before, after.as_deref()).await?;
    Ok(if is_done { Saved::Yes } else { Saved::Changed })
}

pub(super) fn write(lists: &Lists) -> Vec<u8> {
    let mut blocked = Element::bare("blocklist", BLOCKING);
    for address in &lists.blocked {
        blocked.append_child(wire::blocked_element(address));
    }
    let mut query = Element::bare("query", PRIVACY);
    if let Some(default) = &lists.default {
        query.append_child(wire::named("default", default));
    }
    for list in &lists.lists {
        query.append_child(wire::list_element(list));
    }
    let mut root = Element::bare("privacy", ROOT);
    root.append_child(blocked);
    root.append_child(query);
    let mut out = Vec::new();
    Writer::new(&mut out, &Scope::none()).tree(&root);
    out
}

pub(super) fn read(bytes: &[u8]) -> Option<Lists> {
    let limits = Limits { stanza_bytes: 2 * LIMIT, ..Limits::default() };
    let document = parse(std::str::from_utf8(bytes).ok()?, &Scope::none(), limits).ok()?;
    let root = document.as_raw().to_tree().ok()?;
    if !root.is("privacy", ROOT) {
        return None;
    }
    let items = root.get_child("blocklist", BLOCKING)?.children();
    let blocked = items.map(|item| jid::parse(item.attr("jid")?).ok()).collect::<Option<_>>()?;
    let query = root.get_child("query", PRIVACY)?;
    let default = query.get_child("default", PRIVACY).and_then(|default| default.attr("name")).map(str::to_owned);
    let lists = query.children().filter(|child| child.is("list", PRIVACY));
    let lists = lists.map(|list| wire::read_list(list).ok()).collect::<Option<Vec<List>>>()?;
    Some(Lists::new(blocked, lists, default))
}
