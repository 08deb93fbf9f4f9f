//! A client without TLS, on a blocking socket: enough to be logged in, and to see the stream's end.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::program::{PATIENCE, Running};

pub(crate) struct Client {
    stream: TcpStream,
    received: String,
}

impl Client {
    /// A stream that offers log-in.
    pub(crate) fn connect(server: &Running) -> Self {
        let mut client = Self::dial(server);
        client.open();
        client
    }

    /// A connection without a stream.
    pub(crate) fn dial(server: &Running) -> Self {
        let stream = TcpStream::connect(server.address("c2s-starttls")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, received: String::new() }
    }

    /// Opens the stream; what it offers.
    pub(crate) fn open(&mut self) -> String {
        self.send_header();
        self.read_past("</stream:features>")
    }

    pub(crate) fn send_header(&mut self) {
        self.send(
            "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>",
        );
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads up to and with `end`, and returns it with what came before.
    pub(crate) fn read_past(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.received.find(end) {
                let rest = self.received.split_off(at + end.len());
                return std::mem::replace(&mut self.received, rest);
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).unwrap();
            assert!(read > 0, "closed before {end:?}: {}", self.received);
            self.received.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }

    /// Everything until the server closes the connection.
    pub(crate) fn read_to_end(mut self) -> String {
        self.stream.read_to_string(&mut self.received).unwrap();
        self.received
    }

    /// Whether the password is the account's.
    pub(crate) fn authenticate(&mut self, name: &str, password: &str) -> bool {
        let message = STANDARD.encode(format!("\0{name}\0{password}"));
        self.send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{message}</auth>"));
        let answer = self.read_past(">");
        match answer.as_str() {
            success if success.starts_with("<success") => true,
            failure if failure.starts_with("<failure") => {
                assert!(self.read_past("</failure>").contains("not-authorized"));
                false
            }
            other => panic!("{other}"),
        }
    }

    /// Logged in, with a resource.
    pub(crate) fn log_in(server: &Running, name: &str, password: &str) -> Self {
        let mut client = Self::connect(server);
        assert!(client.authenticate(name, password));
        client.open();
        client.send("<iq id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        assert!(client.read_past("</iq>").contains("type='result'"));
        client
    }
}

/// Whether `name` can log in with `password`.
pub(crate) fn may_log_in(server: &Running, name: &str, password: &str) -> bool {
    Client::connect(server).authenticate(name, password)
}
