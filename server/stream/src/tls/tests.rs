pub(crate) mod support;

mod certificates;
mod handshake;
mod reload;
