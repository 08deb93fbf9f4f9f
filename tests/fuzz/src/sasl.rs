//! The server's side of a log-in: no messages make it panic, and none but the right proof succeeds.
//!
//! Input: a byte that chooses mechanism and account, then the client's messages, 0xff between them. The password is
//! never right: the check of PLAIN answers no, and SCRAM's proofs cannot be guessed.

use std::sync::OnceLock;

use starling_xmpp::Random;
use starling_xmpp::sasl::server::{Context, Exchange, Step};
use starling_xmpp::sasl::{ChannelBindings, Credentials, Mechanism};

const MECHANISMS: [Mechanism; 7] = [
    Mechanism::ScramSha512Plus,
    Mechanism::ScramSha512,
    Mechanism::ScramSha256Plus,
    Mechanism::ScramSha256,
    Mechanism::ScramSha1Plus,
    Mechanism::ScramSha1,
    Mechanism::Plain,
];

/// Predictable on purpose: a crash must come again.
struct Zeros;

impl Random for Zeros {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// The target.
pub fn run(data: &[u8]) {
    static CREDENTIALS: OnceLock<Credentials> = OnceLock::new();
    let Some((&choice, messages)) = data.split_first() else { return };
    let mechanism = MECHANISMS[usize::from(choice) % MECHANISMS.len()];
    let is_known = choice & 0x80 != 0;
    let bindings = ChannelBindings { exporter: Some([7; 32]), end_point: Some(vec![9; 32]) };
    let context = Context {
        domain: "localhost",
        offered: &MECHANISMS,
        bindings: &bindings,
        fake_salt_key: &[1; 32],
        fake_iterations: 4096,
    };
    let mut messages = messages.split(|byte| *byte == 0xff);
    let initial = messages.next().filter(|message| !message.is_empty());
    let Ok((mut exchange, mut step)) = Exchange::start(mechanism, &context, &mut Zeros, initial) else { return };
    loop {
        let next = match step {
            Step::Challenge(_) => match messages.next() {
                Some(message) => exchange.respond(message),
                None => return,
            },
            Step::Load { username } => {
                assert!(!username.is_empty());
                let known =
                    || CREDENTIALS.get_or_init(|| Credentials::derive("secret", 4096, &mut Zeros).expect("derived"));
                exchange.loaded(is_known.then(|| known().clone()))
            }
            Step::Check(_) => exchange.checked(false),
            Step::Success { username, .. } => panic!("{username} logged in without the password"),
        };
        match next {
            Ok(next) => step = next,
            Err(_) => return,
        }
    }
}
