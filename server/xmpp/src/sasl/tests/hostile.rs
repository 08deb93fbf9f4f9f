//! What nobody should send, and what becomes of it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;
use crate::sasl::{MAX_ITERATIONS, MAX_MESSAGE};

const SCRAM: [Mechanism; 2] = [Mechanism::ScramSha1Plus, Mechanism::ScramSha1];

#[test]
fn rfc5802_7_first_messages_and_their_failures() {
    use Failure::{InvalidAuthzid, MalformedRequest, NotAuthorized};
    let none = ChannelBindings::default();
    let offered = [Mechanism::ScramSha1];
    let context = context(&offered, &none);
    let long = format!("n,,n=user,r=abc,x={}", "x".repeat(MAX_MESSAGE));
    let long_nonce = format!("n,,n=user,r={}", "x".repeat(513));
    let long_name = format!("n,,n={},r=abc", "x".repeat(1024));
    let table: &[(&[u8], Failure)] = &[
        (b"", MalformedRequest),
        (b",", MalformedRequest),
        (b"n", MalformedRequest),
        (b"n,", MalformedRequest),
        (b"n,,", MalformedRequest),
        (b"n,n=user,r=abc", MalformedRequest),
        (b"N,,n=user,r=abc", MalformedRequest),
        (b"x,,n=user,r=abc", MalformedRequest),
        (b" n,,n=user,r=abc", MalformedRequest),
        (b"nn,,n=user,r=abc", MalformedRequest),
        (b"p,,n=user,r=abc", MalformedRequest),
        (b"p=,,n=user,r=abc", MalformedRequest),
        (b"p=tls exporter,,n=user,r=abc", MalformedRequest),
        (b"p=tls-exporter,,n=user,r=abc", MalformedRequest),
        (b"n,,n=user", MalformedRequest),
        (b"n,,n=user,", MalformedRequest),
        (b"n,,n=user,r=", MalformedRequest),
        (b"n,,n=user,r=a b", MalformedRequest),
        (b"n,,n=user,r=a\x7fb", MalformedRequest),
        (b"n,,n=user,r=\xc3\xa4", MalformedRequest),
        (b"n,,n=\xff,r=abc", MalformedRequest),
        (b"n,,n=us\0er,r=abc", MalformedRequest),
        (b"n,,n=,r=abc", MalformedRequest),
        (b"n,,n=a=b,r=abc", MalformedRequest),
        (b"n,,n=a=2c,r=abc", MalformedRequest),
        (b"n,,n=a=,r=abc", MalformedRequest),
        (b"n,,r=abc,n=user", MalformedRequest),
        (b"n,,m=ext,n=user,r=abc", MalformedRequest),
        (b"n,,n=user,r=abc,m=ext", MalformedRequest),
        (b"n,,n=user,r=abc,n=other", MalformedRequest),
        (b"n,,n=user,r=abc,r=abc", MalformedRequest),
        (b"n,,n=user,r=abc,x", MalformedRequest),
        (b"n,,n=user,r=abc,x=", MalformedRequest),
        (b"n,,n=user,r=abc,1=x", MalformedRequest),
        (b"n,,n=user,r=abc,", MalformedRequest),
        (b"n,b=user,n=user,r=abc", MalformedRequest),
        (b"n,a=,n=user,r=abc", MalformedRequest),
        (b"n,a=a=40b,n=user,r=abc", MalformedRequest),
        (b"n,a=other@example.org,n=user,r=abc", InvalidAuthzid),
        (b"n,a=user@example.net,n=user,r=abc", InvalidAuthzid),
        (b"n,a=user,n=user,r=abc", InvalidAuthzid),
        (b"n,a=@,n=user,r=abc", InvalidAuthzid),
        (b"n,,n=us er,r=abc", NotAuthorized),
        (b"n,,n=user@example.org,r=abc", NotAuthorized),
        (b"n,,n=a=2Cb=3D@,r=abc", NotAuthorized),
        (long.as_bytes(), MalformedRequest),
        (long_nonce.as_bytes(), MalformedRequest),
        (long_name.as_bytes(), NotAuthorized),
    ];
    for (message, expected) in table {
        let found = start(Mechanism::ScramSha1, &context, message).map(|_| ());
        assert_eq!(found, Err(*expected), "{}", String::from_utf8_lossy(message));
    }
    for good in ["n,,n=user,r=abc,x=1,y=a=b", "y,,n=user,r=a", "n,a=user@example.org,n=user,r=abc"] {
        assert!(start(Mechanism::ScramSha1, &context, good.as_bytes()).is_ok(), "{good}");
    }
}

#[test]
fn rfc5802_6_the_binding_flag_has_to_fit_the_mechanism_and_the_offer() {
    use Failure::{MalformedRequest, NotAuthorized};
    let end_point = ChannelBindings { exporter: None, end_point: Some(vec![2; 32]) };
    let context = context(&SCRAM, &end_point);
    for (mechanism, flag, expected) in [
        (Mechanism::ScramSha1, "y", NotAuthorized),
        (Mechanism::ScramSha1, "p=tls-server-end-point", MalformedRequest),
        (Mechanism::ScramSha1Plus, "n", MalformedRequest),
        (Mechanism::ScramSha1Plus, "y", MalformedRequest),
        (Mechanism::ScramSha1Plus, "p=tls-unique", NotAuthorized),
        (Mechanism::ScramSha1Plus, "p=tls-exporter", NotAuthorized),
        (Mechanism::ScramSha1Plus, "p=TLS-server-end-point", NotAuthorized),
    ] {
        let found = start(mechanism, &context, format!("{flag},,n=user,r=abc").as_bytes()).map(|_| ());
        assert_eq!(found, Err(expected), "{mechanism} {flag}");
    }
    assert!(start(Mechanism::ScramSha1, &context, b"n,,n=user,r=abc").is_ok());
    assert!(start(Mechanism::ScramSha1Plus, &context, b"p=tls-server-end-point,,n=user,r=abc").is_ok());
}

#[test]
fn a_mechanism_that_was_not_offered_is_refused() {
    let (none, both) = (ChannelBindings::default(), bindings());
    let refused = |mechanism, offered: &[Mechanism], bindings| {
        start(mechanism, &context(offered, bindings), b"n,,n=user,r=abc").map(|_| ())
    };
    assert_eq!(refused(Mechanism::Plain, &SCRAM, &both), Err(Failure::InvalidMechanism));
    assert_eq!(refused(Mechanism::ScramSha1Plus, &SCRAM, &none), Err(Failure::InvalidMechanism));
}

#[test]
fn rfc4616_2_messages_and_their_failures() {
    use Failure::{InvalidAuthzid, MalformedRequest, NotAuthorized};
    let none = ChannelBindings::default();
    let offered = [Mechanism::Plain];
    let context = context(&offered, &none);
    let long = format!("\0user\0{}", "x".repeat(MAX_MESSAGE));
    let long_password = format!("\0user\0{}", "x".repeat(1025));
    let table: &[(&[u8], Failure)] = &[
        (b"", MalformedRequest),
        (b"user", MalformedRequest),
        (b"user\0pencil", MalformedRequest),
        (b"\0user\0", MalformedRequest),
        (b"\0\0pencil", MalformedRequest),
        (b"\0user\0pencil\0", MalformedRequest),
        (b"\0user\0\xff", MalformedRequest),
        (b"other@example.org\0user\0pencil", InvalidAuthzid),
        (b"user@example.net\0user\0pencil", InvalidAuthzid),
        (b"user\0user\0pencil", InvalidAuthzid),
        (b"\0us er\0pencil", NotAuthorized),
        (b"\0user\0pen\x07cil", NotAuthorized),
        (b"\0user\0\xc2\xad", NotAuthorized),
        (long.as_bytes(), MalformedRequest),
        (long_password.as_bytes(), NotAuthorized),
    ];
    for (message, expected) in table {
        let found = start(Mechanism::Plain, &context, message).map(|_| ());
        assert_eq!(found, Err(*expected), "{}", String::from_utf8_lossy(message));
    }
}

#[test]
fn rfc5802_7_last_messages_and_their_failures() {
    use Failure::{MalformedRequest, NotAuthorized};
    let both = bindings();
    let context = context(&SCRAM, &both);
    let mut client =
        client::Exchange::choose(&offer(&context), &log_in("pencil", &both), &mut Counting(0)).expect("chosen");
    let initial = client.initial().expect("first");
    let led = || challenge(Mechanism::ScramSha1Plus, &context, &initial, Some(credentials())).expect("a challenge");
    let answer = String::from_utf8(client.challenge(&led().1).expect("an answer")).expect("text");
    let fields: Vec<&str> = answer.split(',').collect();
    let &[binding, nonce, proof] = fields.as_slice() else { panic!("{answer}") };
    let bound = |text: &[u8]| format!("c={}", STANDARD.encode(text));
    let exporter_as_end_point = bound(&[b"p=tls-server-end-point,,".as_slice(), &[1; 32]].concat());
    let other_channel = bound(&[b"p=tls-exporter,,".as_slice(), &[9; 32]].concat());
    let table: &[(String, Failure)] = &[
        (String::new(), MalformedRequest),
        (format!("{binding},{nonce}"), MalformedRequest),
        (format!("{nonce},{binding},{proof}"), MalformedRequest),
        (format!("{binding},{proof},{nonce}"), MalformedRequest),
        (format!("{binding},{nonce},{proof},x=1"), MalformedRequest),
        (format!("{binding},{nonce},{proof},{proof}"), MalformedRequest),
        (format!("{binding},{nonce},m=1,{proof}"), MalformedRequest),
        (format!("{binding},{nonce},c=biws,{proof}"), MalformedRequest),
        (format!("{binding}*,{nonce},{proof}"), MalformedRequest),
        (format!("{binding},{nonce},{proof}="), MalformedRequest),
        (format!("{binding},{nonce},p=AAAA"), MalformedRequest),
        (format!("{binding},{nonce},p="), MalformedRequest),
        (format!("{binding},{nonce}\0,{proof}"), MalformedRequest),
        (format!("{binding},{nonce},x={},{proof}", "x".repeat(MAX_MESSAGE)), MalformedRequest),
        (format!("{binding},{nonce}x,{proof}"), NotAuthorized),
        (format!("{binding},r=AAECAwQFBgcICQoLDA0ODxAR,{proof}"), NotAuthorized),
        (format!("{binding},{nonce},p={}", STANDARD.encode([0; 20])), NotAuthorized),
        (format!("{binding},{nonce},x=1,{proof}"), NotAuthorized),
        (format!("c=biws,{nonce},{proof}"), NotAuthorized),
        (format!("c=,{nonce},{proof}"), NotAuthorized),
        (format!("{},{nonce},{proof}", bound(b"p=tls-exporter,,")), NotAuthorized),
        (format!("{exporter_as_end_point},{nonce},{proof}"), NotAuthorized),
        (format!("{other_channel},{nonce},{proof}"), NotAuthorized),
    ];
    for (message, expected) in table {
        let (mut exchange, _) = led();
        assert_eq!(exchange.respond(message.as_bytes()).map(|_| ()), Err(*expected), "{message}");
        assert_eq!(exchange.respond(answer.as_bytes()).map(|_| ()), Err(MalformedRequest), "no second try: {message}");
    }
    assert!(matches!(led().0.respond(answer.as_bytes()), Ok(Step::Success { .. })));
}

/// A last message without its proof, proven as the right password would.
fn proven(hash: Hash, first_bare: &str, challenge: &[u8], without_proof: &str) -> Vec<u8> {
    let salt = credentials().verifier(hash).expect("all are made").salt.clone();
    let client_key = hash.hmac(&hash.salted_password("pencil", &salt, MIN_ITERATIONS), b"Client Key");
    let auth = format!("{first_bare},{},{without_proof}", String::from_utf8_lossy(challenge));
    let signature = hash.hmac(hash.digest(client_key.as_ref()).as_ref(), auth.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
}

#[test]
fn rfc5802_5_1_a_right_proof_needs_the_right_nonce_and_may_have_extensions() {
    let none = ChannelBindings::default();
    let offered = [Mechanism::ScramSha256];
    let context = context(&offered, &none);
    let respond = |without_proof: &dyn Fn(&str) -> String| {
        let led = challenge(Mechanism::ScramSha256, &context, b"n,,n=user,r=abc", Some(credentials()));
        let (mut exchange, challenge) = led.expect("a challenge");
        let text = String::from_utf8_lossy(&challenge).into_owned();
        let nonce = text.split(',').next().unwrap_or_default();
        let last = proven(Hash::Sha256, "n=user,r=abc", &challenge, &without_proof(nonce));
        exchange.respond(&last).map(|step| matches!(step, Step::Success { .. }))
    };
    assert_eq!(respond(&|nonce| format!("c=biws,{nonce}")), Ok(true));
    assert_eq!(respond(&|nonce| format!("c=biws,{nonce},x=19C6532F-1CF4")), Ok(true));
    assert_eq!(respond(&|nonce| format!("c=biws,{nonce}x")), Err(Failure::NotAuthorized));
    assert_eq!(respond(&|_| "c=biws,r=abc".to_owned()), Err(Failure::NotAuthorized));
    assert_eq!(respond(&|nonce| format!("c=eSws,{nonce}")), Err(Failure::NotAuthorized), "y,, after n,,");
}

#[test]
fn a_proof_for_another_channel_is_refused() {
    let (here, there) = (bindings(), ChannelBindings { exporter: Some([3; 32]), end_point: Some(vec![4; 48]) });
    let context = context(&SCRAM, &here);
    let client =
        client::Exchange::choose(&offer(&context), &log_in("pencil", &there), &mut Counting(0)).expect("chosen");
    assert_eq!(run(client, &context, Some(credentials())), End::Server(Failure::NotAuthorized));
}

#[test]
fn calls_out_of_turn_fail() {
    let none = ChannelBindings::default();
    let offered = [Mechanism::ScramSha1, Mechanism::Plain];
    let context = context(&offered, &none);
    let scram = || start(Mechanism::ScramSha1, &context, b"n,,n=user,r=abc").expect("started").0;
    let plain = || start(Mechanism::Plain, &context, b"\0user\0pencil").expect("started").0;
    for mut exchange in [scram(), plain()] {
        assert_eq!(exchange.respond(b"n,,n=user,r=abc").map(|_| ()), Err(Failure::MalformedRequest));
        assert_eq!(exchange.loaded(None).map(|_| ()), Err(Failure::TemporaryAuthFailure));
    }
    for mut exchange in [scram(), plain()] {
        assert_eq!(exchange.checked(true).map(|_| ()), Err(Failure::TemporaryAuthFailure));
    }
}

/// What a client makes of a server's offer after somebody changed it.
fn tampered(at_server: &ChannelBindings, real: &[Mechanism], change: impl FnOnce(&mut client::Offer)) -> Option<End> {
    let context = context(real, at_server);
    let both = bindings();
    let mut seen = offer(&context);
    change(&mut seen);
    let client =
        client::Exchange::choose(&seen, &client::LogIn { plain: false, ..log_in("pencil", &both) }, &mut Counting(0));
    client.ok().map(|client| run(client, &context, Some(credentials())))
}

#[test]
fn rfc5802_6_taking_the_plus_mechanisms_away_is_noticed() {
    let found = tampered(&bindings(), &SCRAM, |offer| offer.mechanisms.retain(|name| !name.ends_with("-PLUS")));
    assert_eq!(found, Some(End::Server(Failure::NotAuthorized)));
}

#[test]
fn xep0474_a_changed_offer_is_noticed() {
    let (both, none) = (bindings(), ChannelBindings::default());
    let real = [Mechanism::ScramSha512Plus, Mechanism::ScramSha1Plus, Mechanism::ScramSha512, Mechanism::ScramSha1];
    let downgrade = Some(End::Client(client::Error::Downgrade));
    assert_eq!(tampered(&both, &real, |_| ()), Some(End::In));
    assert_eq!(tampered(&both, &real, |offer| offer.mechanisms.reverse()), Some(End::In));
    assert_eq!(tampered(&both, &real, |offer| offer.binding_types.reverse()), Some(End::In));
    // A weaker hash, a weaker type, no types, and types that nobody knows.
    assert_eq!(tampered(&none, &real[2..], |offer| offer.mechanisms.retain(|n| n != "SCRAM-SHA-512")), downgrade);
    assert_eq!(tampered(&both, &real, |offer| offer.mechanisms.retain(|n| !n.contains("512"))), downgrade);
    assert_eq!(tampered(&both, &real, |offer| offer.binding_types.retain(|n| n != "tls-exporter")), downgrade);
    assert_eq!(tampered(&both, &real, |offer| offer.binding_types.clear()), downgrade);
    assert_eq!(tampered(&both, &real, |offer| offer.binding_types = vec!["tls-unknown".to_owned()]), downgrade);
    assert_eq!(tampered(&both, &real, |offer| offer.mechanisms.push("PLAIN".to_owned())), downgrade);
}

#[test]
fn xep0474_7_without_a_type_in_common_the_server_has_to_vouch_for_its_offer() {
    let both = bindings();
    let choose = |mechanisms: &[&str]| {
        let offer = client::Offer {
            mechanisms: mechanisms.iter().map(|&name| name.to_owned()).collect(),
            binding_types: vec!["tls-unique".to_owned()],
        };
        client::Exchange::choose(&offer, &log_in("pencil", &both), &mut Counting(0))
    };
    let mut client = choose(&["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"]).expect("chosen");
    let initial = String::from_utf8(client.initial().expect("first")).expect("text");
    let nonce = initial.rsplit_once("r=").expect("a nonce").1;
    assert!(initial.starts_with("n,,"));
    let found = client.challenge(format!("r={nonce}x,s=QQ==,i=4096").as_bytes());
    assert_eq!(found, Err(client::Error::Downgrade));
    assert_eq!(choose(&["SCRAM-SHA-1-PLUS", "PLAIN"]).err(), Some(client::Error::NoMechanism));
}

/// A client that has greeted, and its nonce.
fn greeted() -> (client::Exchange, String) {
    let none = ChannelBindings::default();
    let offered = [Mechanism::ScramSha256];
    let seen = offer(&context(&offered, &none));
    let mut client = client::Exchange::choose(&seen, &log_in("pencil", &none), &mut Counting(0)).expect("chosen");
    let initial = String::from_utf8(client.initial().expect("first")).expect("text");
    let nonce = initial.rsplit_once("r=").expect("a nonce").1.to_owned();
    (client, nonce)
}

#[test]
fn challenges_and_what_a_client_says_to_them() {
    use client::Error::{Downgrade, Iterations, Malformed, Nonce};
    let (_, nonce) = greeted();
    for (challenge, expected) in [
        (String::new(), Malformed),
        (format!("r={nonce}x"), Malformed),
        (format!("m=1,r={nonce}x,s=QQ==,i=4096"), Malformed),
        (format!("r={nonce}x,s=QQ==,i=4096,m=1"), Malformed),
        (format!("r={nonce}x,s=,i=4096"), Malformed),
        (format!("r={nonce}x,s=*,i=4096"), Malformed),
        (format!("r={nonce}x,s=QQ==,i=0"), Malformed),
        (format!("r={nonce}x,s=QQ==,i=-1"), Malformed),
        (format!("r={nonce}x,s=QQ==,i=04096"), Malformed),
        (format!("i=4096,r={nonce}x,s=QQ=="), Malformed),
        ("e=other-error".to_owned(), Malformed),
        (format!("r={nonce},s=QQ==,i=4096"), Nonce),
        ("r=other,s=QQ==,i=4096".to_owned(), Nonce),
        (format!("r=x{nonce}x,s=QQ==,i=4096"), Nonce),
        (format!("r={nonce}x,s=QQ==,i=4095"), Iterations(4095)),
        (format!("r={nonce}x,s=QQ==,i={}", MAX_ITERATIONS + 1), Iterations(MAX_ITERATIONS + 1)),
        (format!("r={nonce}x,s=QQ==,i=99999999999999"), Iterations(u32::MAX)),
        (format!("r={nonce}x,s=QQ==,i=4096,h=QQ=="), Downgrade),
    ] {
        let (mut client, _) = greeted();
        assert_eq!(client.challenge(challenge.as_bytes()), Err(expected), "{challenge}");
        assert_eq!(client.success(None), Err(client::Error::OutOfTurn), "it is over: {challenge}");
    }
}

#[test]
fn rfc5802_5_a_server_that_does_not_prove_itself_is_not_believed() {
    use client::Error::ServerSignature;
    let proved = || {
        let (mut client, nonce) = greeted();
        client.challenge(format!("r={nonce}x,s=QQ==,i=4096").as_bytes()).expect("an answer");
        client
    };
    assert_eq!(greeted().0.success(None), Err(ServerSignature));
    assert_eq!(greeted().0.success(Some(b"v=QQ==")), Err(ServerSignature));
    assert_eq!(proved().success(None), Err(ServerSignature));
    let zeros = format!("v={}", STANDARD.encode([0; 32]));
    for data in ["", "v=", "v=QQ==", "e=invalid-proof", "x=1", zeros.as_str()] {
        assert_eq!(proved().success(Some(data.as_bytes())), Err(ServerSignature), "{data}");
        assert_eq!(proved().challenge(data.as_bytes()), Err(ServerSignature), "{data}");
    }
}

#[test]
fn rfc4422_3_3_the_signature_may_come_as_a_last_challenge() {
    let none = ChannelBindings::default();
    let offered = [Mechanism::ScramSha256];
    let context = context(&offered, &none);
    let (mut client, nonce) = greeted();
    let first = format!("n,,n=user,r={nonce}");
    let (mut server, challenge) =
        challenge(Mechanism::ScramSha256, &context, first.as_bytes(), Some(credentials())).expect("a challenge");
    let answer = client.challenge(&challenge).expect("an answer");
    let Ok(Step::Success { data: Some(data), .. }) = server.respond(&answer) else { panic!("success is due") };
    assert_eq!(client.challenge(&data), Ok(Vec::new()));
    assert_eq!(client.success(None), Ok(()));
}

/// Pieces of real messages and noise, so that some get past the first checks.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "n,,",
        "y,,",
        "p=tls-exporter,,",
        "n=user",
        "r=abc",
        ",",
        "=",
        "a=",
        "=2C",
        "\0",
        "c=biws",
        "p=AAAA",
        "s=QQ==",
        "i=4096",
        "h=",
        "m=",
        "v=",
        "user",
        "@",
        "\u{e4}",
        "\u{627}1",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

proptest! {
    #[test]
    fn nothing_that_a_peer_sends_panics_or_lets_in(
        messages in prop::collection::vec(message(), 1..4),
        mechanism in prop::sample::select(Mechanism::BY_STRENGTH.to_vec()),
    ) {
        let both = bindings();
        let context = context(&Mechanism::BY_STRENGTH, &both);
        let Ok((mut server, mut step)) = server::Exchange::start(mechanism, &context, &mut Counting(0), None) else {
            return Err(TestCaseError::fail("offered"));
        };
        for message in &messages {
            let next = match step {
                Step::Load { .. } => server.loaded(None),
                Step::Challenge(_) => server.respond(message),
                Step::Check(_) => server.checked(false),
                Step::Success { .. } => return Err(TestCaseError::fail("nobody is known")),
            };
            match next {
                Ok(next) => step = next,
                Err(_) => break,
            }
        }
        let (mut client, _) = greeted();
        for message in &messages {
            prop_assert!(client.challenge(message).is_err());
            prop_assert!(client.success(Some(message)).is_err());
        }
    }
}
