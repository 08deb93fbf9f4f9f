//! The operator: makes of an `XmppServer` what runs in the cluster.
//!
//! ```text
//!                 watches ─► controller ─► one server at a time (reconcile):
//!
//!   XmppServer ─┐
//!               ├─► dereference ──► validate ──► build ──► apply ──► status
//!   cluster ────┘   Dereferenced    Validated    Objects   (stage by stage: rollout)
//!                   (fetch,         (no client)  (no client)
//!                    secrets)
//!                 Lease ─► lost: the process ends
//! ```
//!
//! `validate` and `build` know no client, no clock and no chance: what they need comes in, and the same comes out of the same.
//! Used by the binary `starling-operator`. Of the server it shares the settings, so that what it writes is what the server
//! reads, and how a process shows its metrics. It is never in the way of a stanza: away, it is missed by nobody, and what runs goes on.

pub mod apply;
pub mod build;
pub mod capabilities;
pub mod certificates;
mod contest;
pub mod controller;
pub mod crd;
pub mod deletion_cost;
pub mod dereference;
pub mod events;
pub mod fetch;
pub mod hash;
mod index;
pub mod inventory;
pub mod lease;
mod memory;
pub mod names;
mod reconcile;
pub mod rollout;
pub mod run;
pub mod secrets;
pub mod status;
pub mod telemetry;
pub mod validate;
pub mod x509;
