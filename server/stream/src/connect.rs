//! Connectors: the other end of a stream, for programs that are a client or an external component (XEP-0114).

pub mod tls;
