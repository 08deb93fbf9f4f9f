//! What a stranger may do before it is known: connections, their rate, failed log-ins. No sockets and no clock of its
//! own, so that tests own the time.

mod bucket;
mod failures;
mod gate;

pub(crate) use self::{
    bucket::Bucket,
    failures::Failures,
    gate::{AddressKey, Gate, Permit, Refusal},
};
