//! The server's side of a negotiation: no stream makes it panic, what it writes is always whole and well-formed, and
//! nobody is established without the right password.
//!
//! Input: a byte that chooses the policy, then the client's bytes, across its streams.

use std::sync::Arc;

use starling_xml::{Frame, Limits, Reader};
use starling_xmpp::negotiate::{Accept, AcceptPolicy, Input, Next, TlsInfo, TlsPolicy};
use starling_xmpp::sasl::{ChannelBindings, Mechanism};
use starling_xmpp::{Condition, Random, StreamError};

/// Predictable on purpose: a crash must come again.
struct Zeros;

impl Random for Zeros {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

fn info() -> TlsInfo {
    let bindings = ChannelBindings { exporter: Some([7; 32]), end_point: Some(vec![9; 32]) };
    TlsInfo { bindings, version: "TLSv1.3", server_name: None }
}

/// The target.
pub fn run(data: &[u8]) {
    let Some((&choice, mut input)) = data.split_first() else { return };
    let policy = AcceptPolicy {
        domains: vec!["localhost".to_owned()],
        tls: [TlsPolicy::Off, TlsPolicy::Optional, TlsPolicy::Required][usize::from(choice) % 3],
        mechanisms: Mechanism::BY_STRENGTH.to_vec(),
        mechanisms_without_tls: Mechanism::BY_STRENGTH.to_vec(),
        max_attempts: 3,
        fake_salt_key: [1; 32],
        fake_iterations: 4096,
        lang: "en".to_owned(),
        registration: true,
        more_features: String::new(),
    };
    let mut accept = Accept::new(Arc::new(policy), (choice & 0x80 != 0).then(info), Zeros);
    let (mut reader, mut peer) = (Reader::new(Limits::default()), Reader::new(Limits::default()));
    loop {
        let mut out = Vec::new();
        let restart = match turn(&mut accept, &mut reader, &mut input, &mut out) {
            Ok(Some(restart)) => restart,
            Ok(None) => return,
            Err(error) => {
                accept.fail(&error, &mut out);
                read_by_client(&mut peer, &out);
                return;
            }
        };
        read_by_client(&mut peer, &out);
        if restart {
            reader.restart();
        }
    }
}

/// One frame and what follows from it. `Some(true)`: the stream restarts; `None`: there is no whole frame any more.
fn turn(
    accept: &mut Accept,
    reader: &mut Reader,
    input: &mut &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<bool>, StreamError> {
    let mut next = match reader.read(input)? {
        None => return Ok(None),
        Some(Frame::Open(header)) => accept.handle(Input::Open(&header), out)?,
        Some(Frame::Element(element)) => accept.handle(Input::Element(element), out)?,
        Some(Frame::Close) => {
            accept.close(out);
            return Ok(None);
        }
    };
    loop {
        next = match next {
            Next::Read | Next::LogInFailed { .. } => return Ok(Some(false)),
            Next::StartTls => {
                reader.restart();
                accept.handle(Input::TlsReady(info()), out)?
            }
            Next::Register { .. } => accept.handle(Input::Registered(Err(Condition::Conflict.into())), out)?,
            // Nobody exists, so that nobody has the right password.
            Next::Load { .. } => accept.handle(Input::Credentials(None), out)?,
            Next::CheckPassword(_) => accept.handle(Input::PasswordChecked(false), out)?,
            Next::Authenticated { account } => panic!("{account} is authenticated"),
            Next::Bind { account, .. } => panic!("{account} binds a resource"),
            Next::Established { full, .. } => panic!("{full} is established"),
            Next::Resume { account, .. } => panic!("{account} resumes a session"),
            Next::Resumed => panic!("a session is resumed"),
        };
    }
}

fn read_by_client(peer: &mut Reader, out: &[u8]) {
    if out.starts_with(b"<?xml") {
        peer.restart();
    }
    let mut rest = out;
    loop {
        match peer.read(&mut rest) {
            Ok(None) => break,
            Ok(Some(_)) => {}
            Err(error) => panic!("we wrote {:?}: {error}", String::from_utf8_lossy(out)),
        }
    }
    assert!(!peer.is_mid_stanza(), "half an element: {:?}", String::from_utf8_lossy(out));
}
