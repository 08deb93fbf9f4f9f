//! Connectors: the other end of a stream, for programs that are a client or an external component (XEP-0114).

mod client;
mod component;
mod negotiate;
mod stream;
mod tls;

pub use client::{ClientOptions, ClientStream, Security, client};
pub use component::{ComponentOptions, ComponentStream, component};
pub use tls::Roots;

#[cfg(test)]
mod tests;
