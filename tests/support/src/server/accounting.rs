//! Every stanza ends in exactly one counter: asserted after each test, by dropping its server.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Instant,
};

use super::{Process, Server};
use crate::PATIENCE;

impl Server {
    /// Waits until over all outcomes `starling_stanzas_total` equals `starling_stanzas_received_total`, for each kind:
    /// some stanzas may still be on their way. A process that has ended, or was told to, is asked nothing.
    pub fn check_accounting(&mut self) {
        self.instances.iter_mut().for_each(check);
    }
}

fn check(process: &mut Process) {
    let deadline = Instant::now() + PATIENCE;
    while !process.is_over() {
        let text =
            scrape(process.address("http")).unwrap_or_else(|error| panic!("no metrics: {error}\n{}", process.logs()));
        let (received, ended) = (sum(&text, "received_total"), sum(&text, "total"));
        if received == ended {
            return;
        }
        assert!(Instant::now() < deadline, "received {received:?}, ended {ended:?}:\n{text}");
        std::thread::yield_now();
    }
}

/// `/metrics`, without a runtime: there is none where a server is dropped.
fn scrape(address: std::net::SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

/// `starling_stanzas_…` by kind, over all other labels.
fn sum(text: &str, name: &str) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    let lines = text.lines().filter_map(|line| line.strip_prefix("starling_stanzas_")?.strip_prefix(name));
    for line in lines.filter(|line| line.starts_with('{')) {
        let (labels, value) = line.rsplit_once(' ').unwrap();
        let kind = labels.split("kind=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        *kinds.entry(kind.to_owned()).or_default() += value.parse::<u64>().unwrap();
    }
    assert!(!kinds.is_empty(), "no {name} in\n{text}");
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_summed_over_outcomes_and_names_are_not_mixed_up() {
        let text = "# HELP starling_stanzas_total How\nstarling_stanzas_received_total{kind=\"iq\"} 3\n\
                    starling_stanzas_total{kind=\"iq\",outcome=\"a\"} 1\nstarling_stanzas_total{kind=\"iq\",outcome=\"b\"} 2\n\
                    starling_stanzas_total{kind=\"message\",outcome=\"a\"} 0\n";
        assert_eq!(sum(text, "received_total"), BTreeMap::from([("iq".to_owned(), 3)]));
        assert_eq!(sum(text, "total"), BTreeMap::from([("iq".to_owned(), 3), ("message".to_owned(), 0)]));
    }
}
