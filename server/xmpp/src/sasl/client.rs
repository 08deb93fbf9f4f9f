//! The client's end of a log-in: chooses the strongest mechanism, and does not take the server at its word.

use std::{fmt, mem};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use thiserror::Error;

use super::{
    BindingType, ChannelBindings, MAX_ITERATIONS, MIN_ITERATIONS, Mechanism, credentials, downgrade,
    hash::{self, Hash},
    message::{self, ServerFirst},
    saslprep,
};
use crate::random::Random;

/// Random bytes in the client's nonce.
const NONCE_BYTES: usize = 18;

/// What the server advertised, as it came: unknown names too, they are part of what XEP-0474 signs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// The names in `<mechanisms/>`.
    pub mechanisms: Vec<String>,
    /// The types in `<sasl-channel-binding/>` (XEP-0440). Empty: it was not there.
    pub binding_types: Vec<String>,
}

/// Who logs in, and what it accepts.
#[derive(Clone, Copy)]
pub struct LogIn<'a> {
    /// The localpart.
    pub username: &'a str,
    /// The password.
    pub password: &'a str,
    /// The account to act for, where it is another than the one that logs in.
    pub authzid: Option<&'a str>,
    /// What the channel can be bound by.
    pub bindings: &'a ChannelBindings,
    /// Whether PLAIN may be chosen if nothing better is offered. Only ever on an encrypted stream.
    pub plain: bool,
}

/// Why a client gives up a log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing that is offered is known and allowed.
    #[error("the server offers no mechanism that this client knows and may use")]
    NoMechanism,
    /// The name cannot be prepared by SASLprep (RFC 4013).
    #[error("the user name has characters that SASLprep (RFC 4013) prohibits")]
    Username,
    /// The password cannot be used.
    #[error(transparent)]
    Password(#[from] credentials::PasswordError),
    /// The server's message violates RFC 5802 §7, or is an error of its.
    #[error("the server's message is malformed")]
    Malformed,
    /// The server's nonce does not begin with the client's, or adds nothing (RFC 5802 §5.1).
    #[error("the server's nonce does not extend the client's")]
    Nonce,
    /// Fewer rounds than are safe (RFC 7677 §4), or more than are sane.
    #[error("the server asks for {0} rounds of PBKDF2, not {MIN_ITERATIONS} to {MAX_ITERATIONS}")]
    Iterations(u32),
    /// What was advertised is not what the server advertised (XEP-0474), or nobody vouches for it where somebody had to.
    #[error("the server's offer was changed on its way")]
    Downgrade,
    /// The server has not proved that it knows the account.
    #[error("the server's signature is missing or wrong")]
    ServerSignature,
    /// A message came out of turn.
    #[error("a message of the server's came out of turn")]
    OutOfTurn,
}

/// A log-in under way. After an [`enum@Error`] it is over.
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
}

enum State {
    /// Nothing is sent.
    Plain { message: String },
    /// Nothing is sent.
    Scram(Box<Scram>),
    /// The first message is sent.
    Greeted(Box<Scram>),
    /// The proof is sent.
    Proved { signature: Vec<u8> },
    /// Only `<success/>` is missing.
    Complete,
    /// It is over.
    Done,
}

struct Scram {
    hash: Hash,
    password: String,
    gs2_header: String,
    /// The header and the data: what `c` repeats.
    binding: Vec<u8>,
    bare: String,
    nonce: String,
    /// What XEP-0474's `h` has to be.
    downgrade_hash: String,
    /// The offer made no sense unless the server vouches for it.
    needs_downgrade_hash: bool,
}

/// The mechanism, the type it binds by, and whether `h` has to be there.
struct Choice {
    mechanism: Mechanism,
    binding: Option<BindingType>,
    needs_downgrade_hash: bool,
}

impl Exchange {
    /// Chooses the strongest mechanism. A channel is bound by the strongest type that both ends have; where the server
    /// does not say its types, by the strongest that this end has.
    pub fn choose(offer: &Offer, log_in: &LogIn<'_>, random: &mut dyn Random) -> Result<Self, Error> {
        let choice = choose(offer, log_in).ok_or(Error::NoMechanism)?;
        let mechanism = choice.mechanism;
        let username = saslprep(log_in.username).ok_or(Error::Username)?;
        let password = credentials::prepare(log_in.password)?;
        if log_in.authzid.is_some_and(|authzid| authzid.contains('\0')) {
            return Err(Error::Username);
        }
        let Some(hash) = mechanism.hash() else {
            let message = format!("{}\0{username}\0{password}", log_in.authzid.unwrap_or_default());
            return Ok(Self { mechanism, state: State::Plain { message } });
        };
        let offers_plus = offers_plus(offer);
        let flag = match choice.binding {
            Some(kind) => format!("p={}", kind.name()),
            None if log_in.bindings.is_empty() || offers_plus => "n".to_owned(),
            None => "y".to_owned(),
        };
        let authzid = log_in.authzid.map(|authzid| format!("a={}", message::escape(authzid))).unwrap_or_default();
        let gs2_header = format!("{flag},{authzid},");
        let mut binding = gs2_header.as_bytes().to_vec();
        binding.extend_from_slice(choice.binding.and_then(|kind| log_in.bindings.get(kind)).unwrap_or_default());
        let mut bytes = [0; NONCE_BYTES];
        random.fill(&mut bytes);
        let nonce = STANDARD.encode(bytes);
        let scram = Scram {
            hash,
            password: password.into_owned(),
            gs2_header,
            binding,
            bare: format!("n={},r={nonce}", message::escape(&username)),
            nonce,
            downgrade_hash: downgrade::hash(
                hash,
                offer.mechanisms.iter().map(String::as_str),
                offer.binding_types.iter().map(String::as_str),
            ),
            needs_downgrade_hash: choice.needs_downgrade_hash,
        };
        Ok(Self { mechanism, state: State::Scram(Box::new(scram)) })
    }

    /// The mechanism that was chosen.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// What `<auth/>` carries: once, first.
    pub fn initial(&mut self) -> Result<Vec<u8>, Error> {
        match mem::replace(&mut self.state, State::Done) {
            State::Plain { message } => {
                self.state = State::Complete;
                Ok(message.into_bytes())
            }
            State::Scram(scram) => {
                let message = format!("{}{}", scram.gs2_header, scram.bare);
                self.state = State::Greeted(scram);
                Ok(message.into_bytes())
            }
            State::Greeted(_) | State::Proved { .. } | State::Complete | State::Done => Err(Error::OutOfTurn),
        }
    }

    /// Answers a `<challenge/>`. The first takes a PBKDF2 of as many rounds as the server asks, up to
    /// [`MAX_ITERATIONS`]: not for I/O threads.
    pub fn challenge(&mut self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match mem::replace(&mut self.state, State::Done) {
            State::Greeted(scram) => {
                let (answer, signature) = scram.prove(message)?;
                self.state = State::Proved { signature };
                Ok(answer)
            }
            // RFC 4422 §3.3: where success carries no data, the last message comes as a challenge.
            State::Proved { signature } => {
                verify(&signature, message)?;
                self.state = State::Complete;
                Ok(Vec::new())
            }
            State::Plain { .. } | State::Scram(_) | State::Complete | State::Done => Err(Error::OutOfTurn),
        }
    }

    /// Judges `<success/>`, whose data is `None` where it is empty: an `Ok` is due before anything else is believed.
    pub fn success(&mut self, data: Option<&[u8]>) -> Result<(), Error> {
        match mem::replace(&mut self.state, State::Done) {
            State::Proved { signature } => verify(&signature, data.ok_or(Error::ServerSignature)?),
            State::Complete => Ok(()),
            State::Greeted(_) => Err(Error::ServerSignature),
            State::Plain { .. } | State::Scram(_) | State::Done => Err(Error::OutOfTurn),
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

fn verify(signature: &[u8], message: &[u8]) -> Result<(), Error> {
    let found = message::server_signature(message).ok_or(Error::ServerSignature)?;
    if hash::equal(&found, signature) { Ok(()) } else { Err(Error::ServerSignature) }
}

/// Whether the server binds channels, be it with a hash function that is unknown here.
fn offers_plus(offer: &Offer) -> bool {
    offer.mechanisms.iter().any(|name| name.starts_with("SCRAM-") && name.ends_with("-PLUS"))
}

fn choose(offer: &Offer, log_in: &LogIn<'_>) -> Option<Choice> {
    let is_offered = |mechanism: Mechanism| offer.mechanisms.iter().any(|name| name == mechanism.name());
    let is_common = |kind: &BindingType| {
        offer.binding_types.is_empty() || offer.binding_types.iter().any(|name| name == kind.name())
    };
    let binding = log_in.bindings.types().find(is_common);
    let mechanism = Mechanism::BY_STRENGTH.into_iter().find(|&mechanism| {
        is_offered(mechanism)
            && (!mechanism.is_plus() || binding.is_some())
            && (mechanism != Mechanism::Plain || log_in.plain)
    })?;
    // XEP-0474 §7, rule 6: bindings on both sides and none in common is what a man in the middle makes of the list.
    let is_suspect = !mechanism.is_plus() && !log_in.bindings.is_empty() && offers_plus(offer);
    if is_suspect && mechanism == Mechanism::Plain {
        return None;
    }
    let binding = binding.filter(|_| mechanism.is_plus());
    Some(Choice { mechanism, binding, needs_downgrade_hash: is_suspect })
}

impl Scram {
    /// The last message, and the signature that the server has to give.
    fn prove(&self, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let text = std::str::from_utf8(message).map_err(|_| Error::Malformed)?;
        let first = ServerFirst::parse(message).ok_or(Error::Malformed)?;
        if first.nonce.strip_prefix(&self.nonce).is_none_or(str::is_empty) {
            return Err(Error::Nonce);
        }
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&first.iterations) {
            return Err(Error::Iterations(first.iterations));
        }
        match first.downgrade_hash {
            Some(found) if found != self.downgrade_hash => return Err(Error::Downgrade),
            None if self.needs_downgrade_hash => return Err(Error::Downgrade),
            _ => {}
        }
        let hash = self.hash;
        let salted = hash.salted_password(&self.password, &first.salt, first.iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        let stored_key = hash.digest(client_key.as_ref());
        let without_proof = format!("c={},r={}", STANDARD.encode(&self.binding), first.nonce);
        let auth = format!("{},{text},{without_proof}", self.bare);
        let proof = hash::xor(client_key.as_ref(), hash.hmac(stored_key.as_ref(), auth.as_bytes()).as_ref());
        let server_key = hash.hmac(&salted, b"Server Key");
        let signature = hash.hmac(server_key.as_ref(), auth.as_bytes()).as_ref().to_vec();
        Ok((format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes(), signature))
    }
}

#[cfg(test)]
impl Exchange {
    /// With a nonce, and an offer that is not to be checked: for the vectors of the standards.
    pub(super) fn with_nonce(mechanism: Mechanism, username: &str, password: &str, nonce: &str) -> Self {
        let scram = Scram {
            hash: mechanism.hash().expect("a SCRAM mechanism"),
            password: password.to_owned(),
            gs2_header: "n,,".to_owned(),
            binding: b"n,,".to_vec(),
            bare: format!("n={username},r={nonce}"),
            nonce: nonce.to_owned(),
            downgrade_hash: String::new(),
            needs_downgrade_hash: false,
        };
        Self { mechanism, state: State::Scram(Box::new(scram)) }
    }
}
