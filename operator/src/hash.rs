//! Names made of contents.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// Eight hexadecimal digits of the SHA-256: enough to tell names apart.
#[must_use]
pub fn short(bytes: &[u8]) -> String {
    hexadecimal(bytes, 4)
}

/// Sixteen of them: enough to notice every change.
#[must_use]
pub fn long(bytes: &[u8]) -> String {
    hexadecimal(bytes, 8)
}

fn hexadecimal(bytes: &[u8], take: usize) -> String {
    digest(&SHA256, bytes).as_ref().iter().take(take).fold(String::new(), |mut out, byte| {
        // A String takes everything.
        write!(out, "{byte:02x}").unwrap_or_default();
        out
    })
}
