//! PostgreSQL keeps the rules of every store, and its own. Real servers: one that all tests share, in databases of
//! their own, and one for each test that stops or kills it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod postgres {
    mod faults;
    mod lanes;
    mod opening;
    mod proxy;
    mod revocation;
    mod setting;
    mod storm;
    mod suite;
}
