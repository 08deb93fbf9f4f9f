//! Bodies of the fuzz targets, as plain functions: each takes any bytes and panics if a promise is broken. The binaries
//! in `targets` hand them to libFuzzer; the tests here replay the corpora, on any toolchain.
//!
//! ```text
//!   tests/fuzz/run SECONDS ──► targets/NAME.rs (libFuzzer) ──┐
//!   cargo test ──► corpora_replay ◄── corpus/NAME/* ─────────┴──► NAME::run(bytes) ──► the crates under `server`
//! ```

pub mod differential;
pub mod link;
pub mod negotiate;
pub mod path;
pub mod proxy;
pub mod reader;
pub mod restamp;
pub mod sasl;
pub mod stanza;

#[cfg(test)]
mod tests;

/// A target's body.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("reader", reader::run),
    ("differential", differential::run),
    ("path", path::run),
    ("restamp", restamp::run),
    ("stanza", stanza::run),
    ("sasl", sasl::run),
    ("proxy", proxy::run),
    ("negotiate", negotiate::run),
    ("link", link::run),
];
