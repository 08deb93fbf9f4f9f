//! Buffers for what is read: a connection holds one only while there is something to read, so that an idle one costs
//! none.

use std::{cell::RefCell, ops::Deref};

use starling_stream::READ_BYTES;

/// Buffers that a thread keeps for the next reader. A few: they are in use while a stanza is handled, which seldom
/// waits.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`READ_BYTES`], given back to whichever thread drops it.
pub(crate) struct Scratch {
    buffer: Box<[u8]>,
    filled: usize,
}

impl Scratch {
    pub(crate) fn take() -> Self {
        let kept = FREE.with_borrow_mut(Vec::pop);
        Self { buffer: kept.unwrap_or_else(|| vec![0; READ_BYTES].into()), filled: 0 }
    }

    /// The whole buffer, to read into.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Says how much of it was read.
    pub(crate) fn fill(&mut self, bytes: usize) {
        self.filled = bytes.min(self.buffer.len());
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        // A thread that is ending has no list any more.
        let _ended = FREE.try_with(|free| {
            if let Ok(mut free) = free.try_borrow_mut()
                && free.len() < KEPT
                && !buffer.is_empty()
            {
                free.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_shows_what_was_read_and_nothing_of_its_last_user() {
        let mut first = Scratch::take();
        first.space()[..3].copy_from_slice(b"abc");
        first.fill(3);
        assert_eq!(&*first, b"abc");
        drop(first);
        assert!(Scratch::take().is_empty());
    }

    #[test]
    fn a_thread_keeps_few() {
        let many: Vec<_> = (0..3 * KEPT).map(|_| Scratch::take()).collect();
        drop(many);
        assert_eq!(FREE.with_borrow(Vec::len), KEPT);
    }
}
