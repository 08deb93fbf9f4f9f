//! The server's end of a log-in.
//!
//! An account that does not exist, or has no verifier for the hash function in use, is led through the same steps with
//! a made-up verifier: the same messages, of the same sizes, at the same cost, and a salt that stays the same whenever
//! the name is tried (RFC 5802 §9).

use std::{fmt, mem};

use base64::{Engine as _, engine::general_purpose::STANDARD};

pub use super::Failure;
use super::{
    BindingType, ChannelBindings, MAX_ITERATIONS, MAX_MESSAGE, MIN_ITERATIONS, Mechanism,
    credentials::{self, Credentials, FOR_PASSWORD, SALT_BYTES, Verifier},
    downgrade,
    hash::{self, Hash},
    message::{ClientFinal, ClientFirst, Flag},
};
use crate::{jid, random::Random};

/// Random bytes in the server's part of the nonce.
const NONCE_BYTES: usize = 18;

/// What a log-in is judged by. Borrowed only while it starts.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The domain of the stream, normalised: an authorization identity has to be of it.
    pub domain: &'a str,
    /// The mechanisms that were advertised on this stream. Another is refused.
    pub offered: &'a [Mechanism],
    /// What the channel can be bound by; [`ChannelBindings::advertised`] says which types have to be advertised.
    pub bindings: &'a ChannelBindings,
    /// The secret that salts of unknown accounts are made from. The same on every node and after every restart.
    pub fake_salt_key: &'a [u8; 32],
    /// The rounds of PBKDF2 that unknown accounts claim: those that new accounts get, within the same bounds.
    pub fake_iterations: u32,
}

/// What a log-in wants next.
#[derive(Debug)]
pub enum Step {
    /// Send this as `<challenge/>`, even if empty; answer with [`Exchange::respond`].
    Challenge(Vec<u8>),
    /// Look for this account; answer with [`Exchange::loaded`].
    Load {
        /// The localpart, prepared (RFC 7622 §3.3).
        username: String,
    },
    /// Have this run on another thread; answer with [`Exchange::checked`].
    Check(PasswordCheck),
    /// The peer is who it says: `<success/>` with this data.
    Success {
        /// The localpart, prepared.
        username: String,
        /// SCRAM's server signature; nothing for PLAIN.
        data: Option<Vec<u8>>,
    },
}

/// A log-in under way. After a [`Failure`] or success it is over: what comes then is malformed.
pub struct Exchange {
    mechanism: Mechanism,
    setup: Setup,
    state: State,
}

/// What a log-in needs of its [`Context`] later on.
struct Setup {
    domain: String,
    bindings: ChannelBindings,
    offers_plus: bool,
    /// The server's part of the nonce and what XEP-0474 signs; empty for PLAIN.
    nonce: String,
    downgrade_hash: String,
    fake_salt_key: [u8; 32],
    fake_iterations: u32,
}

enum State {
    /// Nothing of the client's has come.
    Start,
    /// The store is being asked, for SCRAM.
    Loading { hash: Hash, username: String, client_bare: String, client_nonce: String, binding: Vec<u8> },
    /// The challenge is sent.
    Challenged {
        hash: Hash,
        username: String,
        verifier: Verifier,
        known: bool,
        nonce: String,
        auth: String,
        binding: Vec<u8>,
    },
    /// The store is being asked, for PLAIN.
    LoadingForPassword { username: String, password: String },
    /// The password is being checked.
    Checking { username: String },
    /// It is over.
    Done,
}

impl Exchange {
    /// Starts with `<auth/>`. `initial` is `None` where it was empty, and `Some(b"")` where it was `=` (RFC 6120
    /// §6.4.2). Fails with `InvalidMechanism` if the mechanism was not offered, or cannot be bound to this channel.
    pub fn start(
        mechanism: Mechanism,
        context: &Context<'_>,
        random: &mut dyn Random,
        initial: Option<&[u8]>,
    ) -> Result<(Self, Step), Failure> {
        if !context.offered.contains(&mechanism) || (mechanism.is_plus() && context.bindings.is_empty()) {
            return Err(Failure::InvalidMechanism);
        }
        let (nonce, downgrade_hash) = match mechanism.hash() {
            Some(hash) => {
                let mut bytes = [0; NONCE_BYTES];
                random.fill(&mut bytes);
                let types = context.bindings.advertised(context.offered);
                let names = context.offered.iter().map(|mechanism| mechanism.name());
                (STANDARD.encode(bytes), downgrade::hash(hash, names, types.into_iter().map(BindingType::name)))
            }
            None => (String::new(), String::new()),
        };
        let setup = Setup {
            domain: context.domain.to_owned(),
            bindings: context.bindings.clone(),
            offers_plus: !context.bindings.advertised(context.offered).is_empty(),
            nonce,
            downgrade_hash,
            fake_salt_key: *context.fake_salt_key,
            fake_iterations: context.fake_iterations.clamp(MIN_ITERATIONS, MAX_ITERATIONS),
        };
        let mut exchange = Self { mechanism, setup, state: State::Start };
        let step = match initial {
            Some(message) => exchange.respond(message)?,
            None => Step::Challenge(Vec::new()),
        };
        Ok((exchange, step))
    }

    /// The mechanism in use.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The account that the peer wants to be, as soon as it has said: for limits and logs.
    pub fn username(&self) -> Option<&str> {
        match &self.state {
            State::Loading { username, .. }
            | State::Challenged { username, .. }
            | State::LoadingForPassword { username, .. }
            | State::Checking { username } => Some(username),
            State::Start | State::Done => None,
        }
    }

    /// Goes on with `<response/>`. More than [`MAX_MESSAGE`] bytes, and whatever comes out of turn, is malformed.
    pub fn respond(&mut self, message: &[u8]) -> Result<Step, Failure> {
        match mem::replace(&mut self.state, State::Done) {
            State::Start => match self.mechanism.hash() {
                Some(hash) => self.client_first(hash, message),
                None => self.plain(message),
            },
            State::Challenged { hash, username, verifier, known, nonce, auth, binding } => {
                let last = ClientFinal::parse(message).ok_or(Failure::MalformedRequest)?;
                if last.proof.len() != hash.len() {
                    return Err(Failure::MalformedRequest);
                }
                let auth = format!("{auth}{}", last.without_proof);
                let is_bound = hash::equal(&last.binding, &binding);
                let is_fresh = hash::equal(last.nonce.as_bytes(), nonce.as_bytes());
                let signature = hash.hmac(&verifier.stored_key, auth.as_bytes());
                let client_key = hash::xor(&last.proof, signature.as_ref());
                let is_proven = hash::equal(hash.digest(&client_key).as_ref(), &verifier.stored_key);
                let own = hash.hmac(&verifier.server_key, auth.as_bytes());
                if is_bound & is_fresh & is_proven & known {
                    let data = format!("v={}", STANDARD.encode(own));
                    Ok(Step::Success { username, data: Some(data.into_bytes()) })
                } else {
                    Err(Failure::NotAuthorized)
                }
            }
            State::Loading { .. } | State::LoadingForPassword { .. } | State::Checking { .. } | State::Done => {
                Err(Failure::MalformedRequest)
            }
        }
    }

    /// Goes on with what the store has; `None` if it has no such account. Out of turn: `TemporaryAuthFailure`.
    pub fn loaded(&mut self, credentials: Option<Credentials>) -> Result<Step, Failure> {
        match mem::replace(&mut self.state, State::Done) {
            State::Loading { hash, username, client_bare, client_nonce, binding } => {
                let own = credentials.and_then(|credentials| credentials.take(hash));
                let (verifier, known) = self.or_fake(hash, &username, own);
                let nonce = client_nonce + &self.setup.nonce;
                let mut first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
                if !self.setup.downgrade_hash.is_empty() {
                    first = first + ",h=" + &self.setup.downgrade_hash;
                }
                let auth = format!("{client_bare},{first},");
                self.state = State::Challenged { hash, username, verifier, known, nonce, auth, binding };
                Ok(Step::Challenge(first.into_bytes()))
            }
            State::LoadingForPassword { username, password } => {
                let own = credentials.and_then(Credentials::for_password);
                let (hash, own) = own.map_or((FOR_PASSWORD[0], None), |(hash, verifier)| (hash, Some(verifier)));
                let (verifier, known) = self.or_fake(hash, &username, own);
                self.state = State::Checking { username };
                Ok(Step::Check(PasswordCheck { password, hash, verifier, known }))
            }
            State::Start | State::Challenged { .. } | State::Checking { .. } | State::Done => {
                Err(Failure::TemporaryAuthFailure)
            }
        }
    }

    /// Goes on with what [`PasswordCheck::run`] found. Out of turn: `TemporaryAuthFailure`.
    pub fn checked(&mut self, is_right: bool) -> Result<Step, Failure> {
        match mem::replace(&mut self.state, State::Done) {
            State::Checking { username } if is_right => Ok(Step::Success { username, data: None }),
            State::Checking { .. } => Err(Failure::NotAuthorized),
            State::Start
            | State::Loading { .. }
            | State::Challenged { .. }
            | State::LoadingForPassword { .. }
            | State::Done => Err(Failure::TemporaryAuthFailure),
        }
    }

    fn client_first(&mut self, hash: Hash, message: &[u8]) -> Result<Step, Failure> {
        let first = ClientFirst::parse(message).ok_or(Failure::MalformedRequest)?;
        let mut binding = first.gs2_header.as_bytes().to_vec();
        match (first.flag, self.mechanism.is_plus()) {
            (Flag::Bound(name), true) => {
                let data = BindingType::parse(name).and_then(|kind| self.setup.bindings.get(kind));
                binding.extend_from_slice(data.ok_or(Failure::NotAuthorized)?);
            }
            (Flag::Bound(_), false) | (Flag::No | Flag::Yes, true) => return Err(Failure::MalformedRequest),
            // RFC 5802 §6: somebody took the -PLUS mechanisms out of what the client saw.
            (Flag::Yes, false) if self.setup.offers_plus => return Err(Failure::NotAuthorized),
            (Flag::No | Flag::Yes, false) => {}
        }
        let username = self.account(&first.username, first.authzid.as_deref())?;
        self.state = State::Loading {
            hash,
            username: username.clone(),
            client_bare: first.bare.to_owned(),
            client_nonce: first.nonce.to_owned(),
            binding,
        };
        Ok(Step::Load { username })
    }

    /// RFC 4616 §2: `[authzid] NUL authcid NUL passwd`.
    fn plain(&mut self, message: &[u8]) -> Result<Step, Failure> {
        if message.len() > MAX_MESSAGE {
            return Err(Failure::MalformedRequest);
        }
        let text = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
        let mut parts = text.split('\0');
        let (Some(authzid), Some(authcid), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Failure::MalformedRequest);
        };
        if authcid.is_empty() || password.is_empty() {
            return Err(Failure::MalformedRequest);
        }
        let username = self.account(authcid, Some(authzid).filter(|authzid| !authzid.is_empty()))?;
        let password = credentials::prepare(password).map_err(|_| Failure::NotAuthorized)?.into_owned();
        self.state = State::LoadingForPassword { username: username.clone(), password };
        Ok(Step::Load { username })
    }

    /// The localpart of an account. What cannot be one is nobody's. The authorization identity, if any, has to be the
    /// account's bare address (RFC 6120 §6.3.8).
    fn account(&self, name: &str, authzid: Option<&str>) -> Result<String, Failure> {
        let username = jid::parse_local(name).map_err(|_| Failure::NotAuthorized)?.to_string();
        if let Some(authzid) = authzid {
            let wanted = jid::parse_bare(authzid).map_err(|_| Failure::InvalidAuthzid)?;
            let is_own = wanted.node().is_some_and(|node| node.as_str() == username)
                && wanted.domain().as_str() == self.setup.domain;
            if !is_own {
                return Err(Failure::InvalidAuthzid);
            }
        }
        Ok(username)
    }

    /// The account's verifier, or one that looks the same to the peer and fits nothing; made in either case, so that
    /// the cost is the same.
    fn or_fake(&self, hash: Hash, username: &str, own: Option<Verifier>) -> (Verifier, bool) {
        let seed = Hash::Sha256.hmac(&self.setup.fake_salt_key, format!("{}\0{username}", hash.name()).as_bytes());
        let salt = seed.as_ref().iter().copied().take(SALT_BYTES).collect();
        let fake = Verifier::fake(hash, salt, self.setup.fake_iterations);
        match own {
            Some(verifier) => (verifier, true),
            None => (fake, false),
        }
    }
}

#[cfg(test)]
impl Exchange {
    /// With a nonce, and without XEP-0474: for the vectors of the standards.
    pub(super) fn with_nonce(mut self, nonce: &str) -> Self {
        nonce.clone_into(&mut self.setup.nonce);
        self.setup.downgrade_hash.clear();
        self
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Start => "Start",
            State::Loading { .. } => "Loading",
            State::Challenged { .. } => "Challenged",
            State::LoadingForPassword { .. } => "LoadingForPassword",
            State::Checking { .. } => "Checking",
            State::Done => "Done",
        };
        f.debug_struct("Exchange").field("mechanism", &self.mechanism).field("state", &state).finish_non_exhaustive()
    }
}

/// A password to be checked: a PBKDF2, some milliseconds of CPU.
pub struct PasswordCheck {
    password: String,
    hash: Hash,
    verifier: Verifier,
    known: bool,
}

impl PasswordCheck {
    /// Whether the password is right. As long for an account that does not exist as for one whose verifiers are of the
    /// current number of iterations.
    pub fn run(self) -> bool {
        self.verifier.fits(self.hash, &self.password) & self.known
    }
}

impl fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordCheck").field("hash", &self.hash).finish_non_exhaustive()
    }
}
