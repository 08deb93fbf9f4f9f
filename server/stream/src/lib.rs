//! Connections under XMPP streams: TCP, TLS and the PROXY protocol. `c2s` takes its clients' connections through
//! [`Transport`]; [`connect`] is the other end, for programs that are a client or an external component (XEP-0114).
//!
//! ```text
//!   TcpStream ─▶ proxy (the client's address) ─▶ Transport ─┬─ plain bytes ──────────▶ c2s
//!                                                  │        └─ rustls, unbuffered ───▶ c2s
//!              Certificates (by SNI) ─ acceptor() ─┘             (nothing held while idle)
//!                ▲ watch(): files, symlink swaps (FileWatch)
//!
//!   connect::client, connect::component ─▶ TcpStream ─▶ tokio-rustls ─▶ negotiate::initiate ─▶ frames
//! ```
//!
//! Time limits are the caller's: each `async fn` here may be dropped at any point, and the connection with it.

pub mod connect;
mod error;
pub mod proxy;
pub mod tls;
mod transport;
mod watch;

pub use error::{Blame, Error};
pub use proxy::{Network, Networks, read_proxy_header};
pub use tls::{CertificateFiles, CertificateStatus, Certificates, Status, TlsAcceptor};
pub use transport::{READ_BYTES, Transport};
pub use watch::FileWatch;
