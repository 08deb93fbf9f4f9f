//! The PROXY protocol, versions 1 and 2: what a load balancer writes before the client's first byte to say who the client
//! is. [`parse`] does no I/O; [`read_proxy_header`] takes exactly the header from a connection; [`Networks`] says whose
//! headers are believed.

mod header;
mod networks;

pub use header::{Error, MAX_HEADER, Parsed, parse};
pub use networks::{Network, NetworkError, Networks};

use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Takes the PROXY header from the start of a connection, and not one byte more. `None`: the load balancer speaks for
/// itself (a health check) or knows no address. There is no time limit of its own.
///
/// # Errors
/// [`crate::Error::Proxy`] when the first bytes are no header or a longer one than [`MAX_HEADER`]; [`crate::Error::Io`].
pub async fn read_proxy_header(tcp: &mut TcpStream) -> Result<Option<SocketAddr>, crate::Error> {
    let mut header = [0; MAX_HEADER];
    let mut taken = 0;
    loop {
        // An unfinished header of full length is refused by `parse`, so that there is always room here.
        let seen = taken + tcp.peek(header.get_mut(taken..).unwrap_or_default()).await?;
        if seen == taken {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let parsed = parse(header.get(..seen).unwrap_or_default())?;
        let end = match parsed {
            Parsed::Complete { length, .. } => length,
            // All that was seen belongs to the header, so it may be taken: the next peek waits for new bytes.
            Parsed::Incomplete => seen,
        };
        tcp.read_exact(header.get_mut(taken..end).unwrap_or_default()).await?;
        taken = end;
        if let Parsed::Complete { source, .. } = parsed {
            return Ok(source);
        }
    }
}

#[cfg(test)]
mod tests;
