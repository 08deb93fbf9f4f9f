//! The PROXY protocol's header: no bytes make the parser panic, a header is found in exactly the bytes that it takes,
//! and what comes behind it changes nothing.
//!
//! Input: the first bytes of a connection.

use header::{MAX_HEADER, Parsed, parse};

/// Only the one file: the crate around it would bring sockets and TLS into the fuzzer.
#[allow(dead_code, unreachable_pub, reason = "made for another crate")]
#[path = "../../../server/stream/src/proxy/header.rs"]
mod header;

/// The target.
pub fn run(data: &[u8]) {
    let whole = parse(data);
    match whole {
        Ok(Parsed::Complete { length, .. }) => {
            assert!(length <= data.len() && length <= MAX_HEADER, "longer than it can be");
            for cut in 0..length {
                assert_eq!(parse(&data[..cut]), Ok(Parsed::Incomplete), "complete or refused too early, at {cut}");
            }
            assert_eq!(parse(&data[..length]), whole, "depends on what comes behind it");
        }
        Ok(Parsed::Incomplete) => assert!(data.len() < MAX_HEADER, "waits for more than it would take"),
        Err(error) => {
            let mut longer = data.to_vec();
            longer.push(b'\n');
            assert_eq!(parse(&longer), Err(error), "refused, and then not");
        }
    }
}
