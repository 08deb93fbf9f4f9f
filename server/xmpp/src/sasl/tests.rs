//! Both ends against each other, against the vectors of the standards, and against what nobody should send.

use super::{
    BindingType, ChannelBindings, Credentials, Failure, Hash, MIN_ITERATIONS, Mechanism, Verifier, client,
    server::{self, Context, Step},
};
use crate::random::testing::Counting;

mod exchange;
mod hostile;
mod vectors;

const KEY: [u8; 32] = [7; 32];
const DOMAIN: &str = "example.org";

fn bindings() -> ChannelBindings {
    ChannelBindings { exporter: Some([1; 32]), end_point: Some(vec![2; 48]) }
}

/// The account `user`, whose password is `pencil`.
fn credentials() -> Credentials {
    Credentials::derive("pencil", MIN_ITERATIONS, &mut Counting(0)).expect("a fit password")
}

fn context<'a>(offered: &'a [Mechanism], bindings: &'a ChannelBindings) -> Context<'a> {
    Context { domain: DOMAIN, offered, bindings, fake_salt_key: &KEY, fake_iterations: MIN_ITERATIONS }
}

/// What the client sees of such a server.
fn offer(context: &Context<'_>) -> client::Offer {
    client::Offer {
        mechanisms: context.offered.iter().map(|mechanism| mechanism.name().to_owned()).collect(),
        binding_types: context.bindings.advertised(context.offered).iter().map(|kind| kind.name().to_owned()).collect(),
    }
}

fn log_in<'a>(password: &'a str, bindings: &'a ChannelBindings) -> client::LogIn<'a> {
    client::LogIn { username: "user", password, authzid: None, bindings, plain: true }
}

/// Starts a log-in with what the client sends first.
fn start(mechanism: Mechanism, context: &Context<'_>, initial: &[u8]) -> Result<(server::Exchange, Step), Failure> {
    server::Exchange::start(mechanism, context, &mut Counting(100), Some(initial))
}

/// Leads a SCRAM log-in to its challenge.
fn challenge(
    mechanism: Mechanism,
    context: &Context<'_>,
    initial: &[u8],
    found: Option<Credentials>,
) -> Result<(server::Exchange, Vec<u8>), Failure> {
    let (mut exchange, step) = start(mechanism, context, initial)?;
    assert!(matches!(step, Step::Load { .. }), "{step:?}");
    match exchange.loaded(found)? {
        Step::Challenge(challenge) => Ok((exchange, challenge)),
        other => panic!("{other:?}"),
    }
}

/// How a log-in ended, at both ends.
#[derive(Debug, PartialEq)]
enum End {
    In,
    Server(Failure),
    Client(client::Error),
}

/// A whole log-in of a chosen client.
fn run(mut client: client::Exchange, context: &Context<'_>, found: Option<Credentials>) -> End {
    let initial = client.initial().expect("the first message");
    let (mut server, mut step) = match start(client.mechanism(), context, &initial) {
        Ok(started) => started,
        Err(failure) => return End::Server(failure),
    };
    let mut found = Some(found);
    loop {
        let next = match step {
            Step::Load { username } => {
                assert_eq!(username, "user");
                server.loaded(found.take().expect("asked once"))
            }
            Step::Challenge(challenge) => match client.challenge(&challenge) {
                Ok(answer) => server.respond(&answer),
                Err(error) => return End::Client(error),
            },
            Step::Check(check) => server.checked(check.run()),
            Step::Success { username, data } => {
                assert_eq!(username, "user");
                return match client.success(data.as_deref()) {
                    Ok(()) => End::In,
                    Err(error) => End::Client(error),
                };
            }
        };
        step = match next {
            Ok(step) => step,
            Err(failure) => return End::Server(failure),
        };
    }
}
