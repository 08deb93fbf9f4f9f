//! rustls' unbuffered server connection as two calls: bytes from the socket in and plaintext out, plaintext in and bytes
//! for the socket out. No I/O here.

use std::io;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// The longest record on the wire: 2^14 bytes of plaintext and 2048 of what TLS 1.2 may add, behind 5 of header.
pub(crate) const MAX_WIRE: usize = (1 << 14) + 2048 + 5;
/// The longest plaintext of a record.
const MAX_FRAGMENT: usize = 1 << 14;
/// What sealing adds to a record at most: header, explicit nonce or content type, tag; generously.
const OVERHEAD: usize = 64;
/// The most plaintext that is sealed in one call: four full records, and what the kernel's buffer usually takes at once.
pub(crate) const MAX_SEALED: usize = 4 * MAX_FRAGMENT;

/// What [`drive`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Driven {
    /// How many bytes of the input are done with; the rest is to be given again, as it is now, with more behind it.
    pub(crate) consumed: usize,
    /// The peer has said that nothing more comes (close_notify).
    pub(crate) peer_closed: bool,
    /// What [`Then`] asked for was done.
    pub(crate) done: bool,
}

/// What to do once application data may be sent.
#[derive(Clone, Copy)]
pub(crate) enum Then<'a> {
    Stop,
    /// Seals these bytes into as few records as possible.
    Seal(&'a [u8]),
    /// Seals close_notify.
    Close,
}

/// Takes as many whole records as `input` holds: decrypts them in place, gives their plaintext to `plain`, and appends to
/// `out` what is to be sent (handshake, alerts, and what `then` seals).
///
/// What was not consumed must be the beginning of the next call's input.
///
/// # Errors
/// The peer broke the protocol: `out` has the alert that tells it so, and there must be no further call.
pub(crate) fn drive(
    connection: &mut UnbufferedServerConnection,
    input: &mut [u8],
    out: &mut Vec<u8>,
    then: Then<'_>,
    mut plain: impl FnMut(&[u8]),
) -> Result<Driven, rustls::Error> {
    let mut driven = Driven { consumed: 0, peer_closed: false, done: false };
    loop {
        let rest = input.get_mut(driven.consumed..).unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = connection.process_tls_records(rest);
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                alert(connection, out);
                return Err(error);
            }
        };
        let go_on = match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    plain(record.payload);
                    discard += record.discard;
                }
                true
            }
            ConnectionState::EncodeTlsData(mut data) => {
                append(out, 0, |room| data.encode(room).map_err(Full::from))?;
                true
            }
            ConnectionState::TransmitTlsData(data) => {
                // It is in `out`, which the caller sends in order.
                data.done();
                true
            }
            ConnectionState::PeerClosed => {
                driven.peer_closed = true;
                true
            }
            ConnectionState::WriteTraffic(mut traffic) => {
                match then {
                    Then::Stop => {}
                    Then::Seal(bytes) => {
                        let estimate = bytes.len() + (bytes.len() / MAX_FRAGMENT + 1) * OVERHEAD;
                        append(out, estimate, |room| traffic.encrypt(bytes, room).map_err(Full::from))?;
                        driven.done = true;
                    }
                    Then::Close => {
                        append(out, OVERHEAD, |room| traffic.queue_close_notify(room).map_err(Full::from))?;
                        driven.done = true;
                    }
                }
                false
            }
            ConnectionState::BlockedHandshake => false,
            ConnectionState::Closed => {
                driven.peer_closed = true;
                false
            }
            // Early data is not allowed by the configuration.
            _ => return Err(rustls::Error::General("unexpected state of a TLS connection".to_owned())),
        };
        driven.consumed += discard;
        if !go_on {
            return Ok(driven);
        }
    }
}

/// After an error, only what tells the peer about it is left to be sent. rustls is not called without need: with part of a
/// handshake message pending, it relies on finding that in the input.
fn alert(connection: &mut UnbufferedServerConnection, out: &mut Vec<u8>) {
    while connection.wants_write() {
        match connection.process_tls_records(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if append(out, 0, |room| data.encode(room).map_err(Full::from)).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

enum Full {
    Needs(usize),
    Failed(rustls::Error),
}

impl From<EncodeError> for Full {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Self::Needs(size.required_size),
            EncodeError::AlreadyEncoded => Self::Failed(rustls::Error::General(error.to_string())),
        }
    }
}

impl From<EncryptError> for Full {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::Needs(size.required_size),
            EncryptError::EncryptExhausted => Self::Failed(rustls::Error::EncryptError),
        }
    }
}

/// Appends what `write` puts into the room it is given: `estimate` bytes at first, and what it asks for then.
fn append(
    out: &mut Vec<u8>,
    estimate: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Full>,
) -> Result<(), rustls::Error> {
    let start = out.len();
    let mut room = estimate;
    // The second try has what the first asked for.
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(out.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(Full::Needs(needed)) => room = needed,
            Err(Full::Failed(error)) => {
                out.truncate(start);
                return Err(error);
            }
        }
    }
    out.truncate(start);
    Err(rustls::Error::General("TLS records have no stable size".to_owned()))
}

/// The same as an I/O error, which is how reading and writing report it.
pub(crate) fn into_io(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
