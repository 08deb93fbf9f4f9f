//! Streaming XML within XMPP's limits (RFC 6120 §11): stanzas are found in a stream, checked once, looked into and moved
//! into other streams as the bytes that came, without a tree. Used by everything that touches a stream.
//!
//! ```text
//!   bytes, in any fragmentation                     Path, PathSet: which of these queries match?
//!        │                                                 ▲
//!        ▼                                                 │
//!     Reader ──► Frame::Open(StreamHeader)                 │
//!    (checks)    Frame::Element(RawElement) ───────────────┼──► accessors: name, attributes, children
//!                Frame::Close       │                      └──► to_tree() ──► minidom
//!                                   ▼                                           │
//!                           restamp: into another stream        Writer ◄────────┘
//! ```

mod element;
mod error;
pub mod escape;
mod header;
mod name;
pub mod path;
mod reader;
mod restamp;
mod scope;
mod token;
mod tree;
mod writer;

pub use crate::{
    element::{Child, OwnedElement, RawElement},
    error::Error,
    header::StreamHeader,
    reader::{Frame, Limits, Reader, parse},
    restamp::restamp,
    scope::{Scope, is_content_namespace},
    writer::Writer,
};
