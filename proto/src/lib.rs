//! The messages that Starling's processes exchange, compiled from the `.proto` files beside this crate.
//!
//! Used by the daemon, at both ends of the admin socket; by `link`, an instance's end of a router, and by `router`; by
//! `session` and `c2s`, for what instances ask each other.
//!
//! ```text
//!  starlingd user add ──▶ admin::admin_client ── Unix socket ──▶ admin::admin_server ──▶ store
//!                         (verifiers, never passwords)
//!  link ──▶ link::router_client ── mutual TLS ──▶ link::router_server ──▶ router ──▶ the other links
//! ```

/// The administration of a running server: `admin.proto`, package `starling.admin.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::panic,
    clippy::unwrap_used,
    clippy::use_self,
    clippy::or_fun_call,
    reason = "generated code"
)]
pub mod admin {
    tonic::include_proto!("starling.admin.v1");

    /// The most accounts that one `PutAccounts` carries.
    pub const PUT_LIMIT: usize = 1000;
}

/// What instances say to each other about sessions: `instance.proto`, package `starling.instance.v1`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::use_self, reason = "generated code")]
pub mod instance {
    tonic::include_proto!("starling.instance.v1");
}

/// Between the processes of a cluster: `link.proto`, package `starling.link.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::panic,
    clippy::unwrap_used,
    clippy::use_self,
    clippy::or_fun_call,
    reason = "generated code"
)]
pub mod link {
    tonic::include_proto!("starling.link.v1");

    /// The version of the protocol that this release speaks.
    pub const VERSION: u32 = 1;

    /// The largest message of a stream, in bytes: a frame with one batch, whose body has one payload, may be as large as a
    /// stanza; others are kept small by whoever makes them.
    pub const MESSAGE_BYTES: usize = 64 << 20;
}
