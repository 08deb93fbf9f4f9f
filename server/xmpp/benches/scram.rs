//! What a log-in costs a server: one whole SCRAM exchange, from `<auth/>` to `<success/>`, the store left out; for a
//! right password, a wrong one and an unknown account, and PLAIN's PBKDF2 beside them.

use divan::Bencher;
use starling_xmpp::{
    Random,
    sasl::{
        ChannelBindings, Credentials, MIN_ITERATIONS, Mechanism,
        client::{self, LogIn, Offer},
        server::{Context, Exchange, Step},
    },
};

/// The same bytes each time, so that one proof is right each time.
struct Fixed(u8);

impl Random for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

const PASSWORD: &str = "pencil";

/// A log-in whose messages are known beforehand.
struct Fixture {
    mechanism: Mechanism,
    bindings: ChannelBindings,
    credentials: Credentials,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Fixture {
    fn new(mechanism: Mechanism) -> Self {
        let bindings = ChannelBindings { exporter: Some([1; 32]), end_point: Some(vec![2; 32]) };
        let credentials = Credentials::derive(PASSWORD, MIN_ITERATIONS, &mut Fixed(3)).expect("a fit password");
        let mut fixture = Self { mechanism, bindings, credentials, first: Vec::new(), last: Vec::new() };
        if mechanism == Mechanism::Plain {
            fixture.first = format!("\0user\0{PASSWORD}").into_bytes();
            return fixture;
        }
        let log_in =
            LogIn { username: "user", password: PASSWORD, authzid: None, bindings: &fixture.bindings, plain: false };
        let types = fixture.bindings.advertised(&[mechanism]);
        let offer = Offer {
            mechanisms: vec![mechanism.name().to_owned()],
            binding_types: types.iter().map(|kind| kind.name().to_owned()).collect(),
        };
        let mut client = client::Exchange::choose(&offer, &log_in, &mut Fixed(4)).expect("a mechanism");
        fixture.first = client.initial().expect("the first message");
        let (_, challenge) = fixture.lead(Some(fixture.credentials.clone()));
        fixture.last = client.challenge(&challenge).expect("an answer");
        fixture
    }

    fn context(&self) -> Context<'_> {
        Context {
            domain: "localhost",
            offered: std::slice::from_ref(&self.mechanism),
            bindings: &self.bindings,
            fake_salt_key: &[5; 32],
            fake_iterations: MIN_ITERATIONS,
        }
    }

    fn start(&self) -> Exchange {
        Exchange::start(self.mechanism, &self.context(), &mut Fixed(6), Some(&self.first)).expect("started").0
    }

    fn lead(&self, found: Option<Credentials>) -> (Exchange, Vec<u8>) {
        let mut exchange = self.start();
        match exchange.loaded(found) {
            Ok(Step::Challenge(challenge)) => (exchange, challenge),
            _ => unreachable!("SCRAM challenges"),
        }
    }
}

const SCRAM: [Mechanism; 4] =
    [Mechanism::ScramSha512Plus, Mechanism::ScramSha256Plus, Mechanism::ScramSha256, Mechanism::ScramSha1Plus];

/// The right password.
#[divan::bench(args = SCRAM)]
fn known(bencher: Bencher<'_, '_>, mechanism: Mechanism) {
    let fixture = Fixture::new(mechanism);
    bencher.with_inputs(|| fixture.credentials.clone()).bench_values(|credentials| {
        let (mut exchange, _) = fixture.lead(Some(credentials));
        match exchange.respond(&fixture.last) {
            Ok(step @ Step::Success { .. }) => step,
            _ => unreachable!("the proof is right"),
        }
    });
}

/// A wrong password: what `unknown` is to be compared with.
#[divan::bench(args = SCRAM)]
fn wrong(bencher: Bencher<'_, '_>, mechanism: Mechanism) {
    let mut fixture = Fixture::new(mechanism);
    fixture.credentials = Credentials::derive("pen", MIN_ITERATIONS, &mut Fixed(3)).expect("a fit password");
    bencher.with_inputs(|| fixture.credentials.clone()).bench_values(|credentials| {
        let (mut exchange, _) = fixture.lead(Some(credentials));
        exchange.respond(&fixture.last).is_err()
    });
}

/// An account that does not exist.
#[divan::bench(args = SCRAM)]
fn unknown(bencher: Bencher<'_, '_>, mechanism: Mechanism) {
    let fixture = Fixture::new(mechanism);
    bencher.bench(|| {
        let (mut exchange, _) = fixture.lead(None);
        exchange.respond(&fixture.last).is_err()
    });
}

/// PLAIN with 4096 rounds: what is kept off the I/O threads.
#[divan::bench]
fn plain(bencher: Bencher<'_, '_>) {
    let fixture = Fixture::new(Mechanism::Plain);
    bencher.with_inputs(|| fixture.credentials.clone()).bench_values(|credentials| {
        let mut exchange = fixture.start();
        match exchange.loaded(Some(credentials)) {
            Ok(Step::Check(check)) => assert!(check.run()),
            _ => unreachable!("PLAIN checks"),
        }
    });
}

/// The verifiers of a new account, for three hash functions.
#[divan::bench]
fn derive() -> Option<Credentials> {
    Credentials::derive(PASSWORD, MIN_ITERATIONS, &mut Fixed(3)).ok()
}

fn main() {
    divan::main();
}
