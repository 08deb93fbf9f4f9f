use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is taken, in bytes: version 2 with the largest addresses and 304 bytes of additions, which is
/// what the protocol (§2.2) asks receivers to take at least. A version 1 header has at most 107.
pub const MAX_HEADER: usize = 536;

const V1_MAX: usize = 107;
const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// What [`parse`] made of the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header: all bytes belong to it.
    Incomplete,
    /// A whole header.
    Complete {
        /// How many of the bytes it takes.
        length: usize,
        /// The client's address, IPv4 where it was mapped into IPv6. `None`: the proxy itself, or unknown.
        source: Option<SocketAddr>,
    },
}

/// Why the first bytes of a connection are no PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither version's first bytes.
    #[error("no header at the start of the connection")]
    Missing,
    /// Longer than [`MAX_HEADER`], or a version 1 line longer than 107 bytes.
    #[error("longer than allowed")]
    TooLong,
    /// A version 1 line that does not follow §2.1.
    #[error("malformed version 1 line")]
    Line,
    /// A version, command, family or protocol that version 2 does not have for TCP (§2.2).
    #[error("unknown version, command or address family")]
    Unsupported,
    /// Fewer bytes than the address family needs (§2.2).
    #[error("addresses cut short")]
    Short,
}

/// Reads a header from the first bytes of a connection.
///
/// # Errors
/// See [`Error`]; given as soon as the bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Error> {
    if starts(bytes, V2_START) {
        parse_v2(bytes)
    } else if starts(bytes, V1_START) {
        parse_v1(bytes)
    } else {
        Err(Error::Missing)
    }
}

/// Whether `bytes` begin with `start`, or may when more come.
fn starts(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, Error> {
    let Some(end) = bytes.iter().take(V1_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < V1_MAX { Ok(Parsed::Incomplete) } else { Err(Error::TooLong) };
    };
    let line = bytes
        .get(V1_START.len()..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .and_then(|line| str::from_utf8(line).ok())
        .ok_or(Error::Line)?;
    let length = end + 1;
    let mut fields = line.split(' ');
    let source = match fields.next() {
        // What follows UNKNOWN is to be ignored (§2.1).
        Some("UNKNOWN") => return Ok(Parsed::Complete { length, source: None }),
        Some("TCP4") => v1_addresses(&mut fields, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)),
        Some("TCP6") => v1_addresses(&mut fields, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)),
        _ => None,
    };
    match (source, fields.next()) {
        (Some(source), None) => Ok(Parsed::Complete { length, source: Some(canonical(source)) }),
        _ => Err(Error::Line),
    }
}

fn v1_addresses<'a>(
    fields: &mut impl Iterator<Item = &'a str>,
    address: impl Fn(&str) -> Option<IpAddr>,
) -> Option<SocketAddr> {
    let source = address(fields.next()?)?;
    address(fields.next()?)?;
    let port = v1_port(fields.next()?)?;
    v1_port(fields.next()?)?;
    Some(SocketAddr::new(source, port))
}

fn v1_port(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, Error> {
    let (command, family) = match bytes.get(V2_START.len()..) {
        Some(&[command, family, ..]) => (command, family),
        Some(&[command]) if !matches!(command, 0x20 | 0x21) => return Err(Error::Unsupported),
        _ => return Ok(Parsed::Incomplete),
    };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Error::Unsupported),
    };
    let Some(&[high, low]) = bytes.get(V2_START.len() + 2..V2_FIXED) else { return Ok(Parsed::Incomplete) };
    let following = usize::from(u16::from_be_bytes([high, low]));
    let length = V2_FIXED + following;
    // What a LOCAL header says beyond its length is to be ignored (§2.2), so its family may be anything.
    let needed = match family {
        _ if local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(Error::Unsupported),
    };
    if length > MAX_HEADER {
        return Err(Error::TooLong);
    }
    if following < needed {
        return Err(Error::Short);
    }
    let Some(addresses) = bytes.get(V2_FIXED..length) else { return Ok(Parsed::Incomplete) };
    let source = match (local, family) {
        (false, 0x11) => {
            v2_address::<4, 8>(addresses).map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(ip).into(), port))
        }
        (false, 0x21) => {
            v2_address::<16, 32>(addresses).map(|(ip, port)| SocketAddr::new(Ipv6Addr::from(ip).into(), port))
        }
        _ => None,
    };
    Ok(Parsed::Complete { length, source: source.map(canonical) })
}

/// The source's address of `N` bytes and its port, which stands behind both addresses.
fn v2_address<const N: usize, const PORT_AT: usize>(addresses: &[u8]) -> Option<([u8; N], u16)> {
    let ip = addresses.first_chunk::<N>()?;
    let port = addresses.get(PORT_AT..)?.first_chunk::<2>()?;
    Some((*ip, u16::from_be_bytes(*port)))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
