//! Rules of the standards, each by its section, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what helpers of tests do not expect is a failed test")]

mod archive;
mod bind;
mod blocking;
mod caps;
mod carbons;
mod delivery;
mod domains;
mod extensions;
mod hostile;
mod last_activity;
mod limits;
mod offline;
mod presence;
mod privacy_lists;
mod private_storage;
mod proxy;
mod registration;
mod roster;
mod sasl;
mod stanzas;
mod starttls;
mod stop;
mod stream_management;
mod streams;
mod subscription;
mod time;
mod tls;
mod vcard;
mod version;
mod xml;

use starling_test_support::{Builder, RawClient, Server};

/// A server with Juliet and Romeo.
fn verona() -> Builder {
    Server::builder().user("juliet@localhost", "r0m30").user("romeo@localhost", "jul13t")
}

/// Juliet's session.
async fn juliet(server: &Server, resource: &str) -> RawClient {
    RawClient::session(server, "juliet@localhost", "r0m30", resource).await
}

/// Romeo's session.
async fn romeo(server: &Server, resource: &str) -> RawClient {
    RawClient::session(server, "romeo@localhost", "jul13t", resource).await
}

/// Sessions of both, neither available.
async fn both(server: &Server) -> (RawClient, RawClient) {
    (juliet(server, "balcony").await, romeo(server, "orchard").await)
}
