//! The messages that Starling's processes exchange, compiled from the `.proto` files beside this crate.
//!
//! Used by the daemon, at both ends: the running server answers, the command line asks.
//!
//! ```text
//!  starlingd user add ──▶ admin::admin_client ── Unix socket ──▶ admin::admin_server ──▶ store
//!                         (verifiers, never passwords)
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
