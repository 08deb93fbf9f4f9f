//! What one instance says to another: whatever comes, it is read as the generated code reads it or refused, and a peer's
//! state machine goes on.
//!
//! Input: bodies of `link.proto`, each behind its length in two bytes.

/// The target.
pub fn run(data: &[u8]) {
    starling_link::fuzzing::bodies(data);
}
