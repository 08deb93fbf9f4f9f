//! The operator: makes of an `XmppServer` what runs in the cluster.
//!
//! ```text
//!   XmppServer ─┐
//!               ├─► dereference ──► validate ──► build ──► apply ──► status
//!   cluster ────┘   Dereferenced    Validated    Objects
//!                   (plain data)    (no client)  (no client)
//! ```
//!
//! `validate` and `build` know no client, no clock and no chance: what they need comes in, and the same comes out of the same.
//! Used by the binary `starling-operator`. Of the server it shares the settings alone, so that what it writes is what the
//! server reads.

pub mod build;
pub mod certificates;
pub mod crd;
pub mod dereference;
pub mod hash;
pub mod inventory;
pub mod names;
pub mod rollout;
pub mod validate;
pub mod x509;
