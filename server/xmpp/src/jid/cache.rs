//! Addresses that one stream used lately.

use super::{Jid, JidError, parse};

/// Slots: a person writes to few others at a time.
const SLOTS: usize = 8;
/// Longer texts are parsed each time, so that a cache never holds more than `SLOTS * 2 * LONGEST` bytes of text.
const LONGEST: usize = 256;

/// A small direct-mapped cache from the text of an address to the address, one per stream. Holds nothing until it is
/// used, at most 8 addresses of 256 bytes then.
#[derive(Debug, Default, Clone)]
pub struct AddressCache {
    slots: Option<Box<[Option<Entry>; SLOTS]>>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// What came, where it differs from the normal form.
    text: Option<Box<str>>,
    jid: Jid,
}

impl Entry {
    fn is_for(&self, text: &str) -> bool {
        self.text.as_deref().unwrap_or_else(|| self.jid.as_str()) == text
    }
}

impl AddressCache {
    /// An empty cache, which owns no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: None }
    }

    /// The address that `text` stands for: like [`parse`], from memory if it is there.
    pub fn parse(&mut self, text: &str) -> Result<Jid, JidError> {
        let slot = slot(text);
        if let Some(Some(entry)) = self.slots.as_ref().and_then(|slots| slots.get(slot))
            && entry.is_for(text)
        {
            return Ok(entry.jid.clone());
        }
        let jid = parse(text)?;
        if text.len() <= LONGEST
            && let Some(free) = self.slots.get_or_insert_default().get_mut(slot)
        {
            *free = Some(Entry { text: (jid.as_str() != text).then(|| text.into()), jid: jid.clone() });
        }
        Ok(jid)
    }

    /// Gives the memory back, as for a stream that fell idle.
    pub fn clear(&mut self) {
        self.slots = None;
    }
}

/// A peer can make its own addresses collide; it slows only itself.
fn slot(text: &str) -> usize {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).map_or(0, |b| usize::from(*b));
    let last = bytes.len().saturating_sub(1);
    (bytes.len().wrapping_mul(31) ^ at(0).wrapping_mul(7) ^ at(bytes.len() / 4).wrapping_mul(3) ^ at(last)) % SLOTS
}
