use super::*;

fn v2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, family]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(rest);
    bytes
}

fn good() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let ipv4 = [192, 0, 2, 1, 10, 0, 0, 1, 0xd4, 0x31, 0x14, 0x66];
    let mut ipv6 = [0; 36];
    ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    ipv6[15] = 7;
    ipv6[32..].copy_from_slice(&[0xff, 0xff, 0, 1]);
    let mut mapped = [0; 36];
    mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
    let mut long = vec![0; 520];
    long[..12].copy_from_slice(&ipv4);
    vec![
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 54321 5222\r\n".to_vec(), Some("192.0.2.1:54321")),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(), Some("255.255.255.255:65535")),
        (b"PROXY TCP6 2001:db8::7 ::1 1 0\r\n".to_vec(), Some("[2001:db8::7]:1")),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 0\r\n".to_vec(), Some("192.0.2.1:1")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), None),
        (v2(0x21, 0x11, 12, &ipv4), Some("192.0.2.1:54321")),
        (v2(0x21, 0x21, 36, &ipv6), Some("[2001:db8::7]:65535")),
        (v2(0x21, 0x21, 36, &mapped), Some("192.0.2.1:0")),
        (v2(0x21, 0x11, 520, &long), Some("192.0.2.1:54321")),
        (v2(0x21, 0x31, 216, &[b'/'; 216]), None),
        (v2(0x21, 0x00, 0, &[]), None),
        (v2(0x20, 0x00, 0, &[]), None),
        (v2(0x20, 0x11, 12, &ipv4), None),
        (v2(0x20, 0xff, 3, &[1, 2, 3]), None),
    ]
}

#[test]
fn every_good_header_is_taken_exactly_and_each_of_its_beginnings_is_incomplete() {
    for (header, source) in good() {
        let source = source.map(|text| text.parse().unwrap());
        let expected = Parsed::Complete { length: header.len(), source };
        assert_eq!(parse(&header), Ok(expected), "{}", header.escape_ascii());
        let mut followed = header.clone();
        followed.extend(b"<?xml version='1.0'?>\r\n");
        assert_eq!(parse(&followed), Ok(expected), "{}", header.escape_ascii());
        for cut in 0..header.len() {
            assert_eq!(parse(&header[..cut]), Ok(Parsed::Incomplete), "{} at {cut}", header.escape_ascii());
        }
    }
}

#[test]
fn hostile_headers_are_refused() {
    let ipv4 = [192, 0, 2, 1, 10, 0, 0, 1, 0xd4, 0x31, 0x14];
    let mut endless = b"PROXY UNKNOWN ".to_vec();
    endless.resize(V1_MAX_FOR_TESTS, b'x');
    let mut long_line = b"PROXY UNKNOWN ".to_vec();
    long_line.resize(V1_MAX_FOR_TESTS - 1, b'x');
    long_line.extend(b"\r\n");
    let table: Vec<(Vec<u8>, Error)> = vec![
        (b"<stream:stream".to_vec(), Error::Missing),
        (b"PROXX".to_vec(), Error::Missing),
        (b"\x16\x03\x01".to_vec(), Error::Missing),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Error::Missing),
        (b"proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(), Error::Missing),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n".to_vec(), Error::Line),
        (b"PROXY \r\n".to_vec(), Error::Line),
        (b"PROXY TCP5 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(), Error::Line),
        (b"PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n".to_vec(), Error::Line),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n".to_vec(), Error::Line),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 \r\n".to_vec(), Error::Line),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n".to_vec(), Error::Line),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n".to_vec(), Error::Line),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n".to_vec(), Error::Line),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n".to_vec(), Error::Line),
        (b"PROXY TCP4 192.0.2.01 10.0.0.1 1 2\r\n".to_vec(), Error::Line),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), Error::Line),
        (b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(), Error::Line),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n".to_vec(), Error::Line),
        (b"PROXY UNKNOWN \xff\r\n".to_vec(), Error::Line),
        (endless, Error::TooLong),
        (long_line, Error::TooLong),
        (v2(0x11, 0x11, 12, &[]), Error::Unsupported),
        (v2(0x22, 0x11, 12, &[]), Error::Unsupported),
        (v2(0x21, 0x12, 12, &[]), Error::Unsupported),
        (v2(0x21, 0x01, 0, &[]), Error::Unsupported),
        (v2(0x21, 0x41, 0, &[]), Error::Unsupported),
        (v2(0x21, 0x11, 11, &ipv4), Error::Short),
        (v2(0x21, 0x21, 12, &[]), Error::Short),
        (v2(0x21, 0x31, 215, &[]), Error::Short),
        (v2(0x21, 0x11, 521, &[]), Error::TooLong),
        (v2(0x20, 0x00, u16::MAX, &[]), Error::TooLong),
    ];
    for (bytes, error) in table {
        assert_eq!(parse(&bytes), Err(error), "{}", bytes.escape_ascii());
    }
}

const V1_MAX_FOR_TESTS: usize = 107;

#[tokio::test]
async fn read_proxy_header_takes_the_header_and_nothing_behind_it_whatever_the_fragments() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for (header, source) in good() {
        for fragment in [1, 7, header.len()] {
            let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (mut client, mut server) = (client.unwrap(), accepted.unwrap().0);
            client.set_nodelay(true).unwrap();
            let write = async {
                use tokio::io::AsyncWriteExt as _;
                let pieces: Vec<&[u8]> = header.chunks(fragment).collect();
                for (index, piece) in pieces.iter().enumerate() {
                    if index + 1 == pieces.len() {
                        client.write_all(&[piece, b"<stream".as_slice()].concat()).await.unwrap();
                    } else {
                        client.write_all(piece).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                }
                drop(client);
            };
            let read = async {
                let found = read_proxy_header(&mut server).await.unwrap();
                let mut rest = Vec::new();
                server.read_to_end(&mut rest).await.unwrap();
                (found, rest)
            };
            let ((), (found, rest)) = tokio::join!(write, read);
            assert_eq!(found, source.map(|text| text.parse().unwrap()), "{}", header.escape_ascii());
            assert_eq!(rest, b"<stream");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_inside_the_header_is_an_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (client, mut server) = (client.unwrap(), accepted.unwrap().0);
    client.try_write(b"PROXY TCP4").unwrap();
    drop(client);
    assert!(matches!(read_proxy_header(&mut server).await, Err(crate::Error::Io(_))));
}

#[test]
fn networks_contain_what_their_prefix_says() {
    let networks = Networks::parse(["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1", "0.0.0.0/32"]).unwrap();
    for inside in ["10.255.0.1", "192.0.2.7", "::ffff:10.1.2.3", "fdff::1", "::1", "0.0.0.0"] {
        assert!(networks.contains(inside.parse().unwrap()), "{inside}");
    }
    for outside in ["11.0.0.1", "192.0.2.8", "::ffff:11.1.2.3", "fe00::1", "::2", "::", "0.0.0.1"] {
        assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
    }
    let all = Networks::parse(["0.0.0.0/0"]).unwrap();
    assert!(all.contains("203.0.113.9".parse().unwrap()) && !all.contains("2001:db8::1".parse().unwrap()));
    assert!(Networks::parse(["::/0"]).unwrap().contains("2001:db8::1".parse().unwrap()));
    assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()) && Networks::default().is_empty());
    assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    assert_eq!("fd00::/8".parse::<Network>().unwrap().to_string(), "fd00::/8");
}

#[test]
fn texts_that_are_no_network_are_refused() {
    let error = |text: &str| text.parse::<Network>().unwrap_err();
    for text in ["", "localhost", "10.0.0.0.0/8", "/8", " 10.0.0.0/8"] {
        assert_eq!(error(text), NetworkError::Address(text.to_owned()));
    }
    for text in ["10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/999"] {
        assert_eq!(error(text), NetworkError::Prefix(text.to_owned()));
    }
    for text in ["10.0.0.1/8", "fd00::1/8", "192.0.2.1/0"] {
        assert_eq!(error(text), NetworkError::HostBits(text.to_owned()));
    }
}
