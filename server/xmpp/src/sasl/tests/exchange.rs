//! The two ends against each other.

use super::*;
use crate::sasl::hash::ops;

#[test]
fn every_mechanism_with_every_binding() {
    let both = bindings();
    let exporter = ChannelBindings { end_point: None, ..both.clone() };
    let end_point = ChannelBindings { exporter: None, ..both.clone() };
    for mechanism in Mechanism::BY_STRENGTH {
        for at_server in [&both, &exporter, &end_point] {
            for at_client in [&both, at_server] {
                let offered = [mechanism];
                let context = context(&offered, at_server);
                let choose = |password| {
                    let chosen =
                        client::Exchange::choose(&offer(&context), &log_in(password, at_client), &mut Counting(0));
                    chosen.expect("a mechanism in common")
                };
                assert_eq!(choose("pencil").mechanism(), mechanism);
                assert_eq!(run(choose("pencil"), &context, Some(credentials())), End::In, "{mechanism}");
                let wrong = End::Server(Failure::NotAuthorized);
                assert_eq!(run(choose("pen"), &context, Some(credentials())), wrong, "{mechanism}");
                assert_eq!(run(choose("pencil"), &context, None), wrong, "{mechanism}");
            }
        }
    }
}

#[test]
fn the_strongest_mechanism_and_type_in_common_are_chosen() {
    let both = bindings();
    let end_point = ChannelBindings { exporter: None, ..both.clone() };
    let none = ChannelBindings::default();
    let first = |offered: &[Mechanism], at_server: &ChannelBindings, at_client: &ChannelBindings| {
        let context = context(offered, at_server);
        let chosen = client::Exchange::choose(&offer(&context), &log_in("pencil", at_client), &mut Counting(0));
        let mut chosen = chosen.expect("a mechanism");
        let initial = String::from_utf8(chosen.initial().expect("first")).expect("text");
        (chosen.mechanism(), initial.split(',').next().unwrap_or_default().to_owned())
    };
    let all = Mechanism::BY_STRENGTH;
    assert_eq!(first(&all, &both, &both), (Mechanism::ScramSha512Plus, "p=tls-exporter".to_owned()));
    assert_eq!(first(&all, &end_point, &both), (Mechanism::ScramSha512Plus, "p=tls-server-end-point".to_owned()));
    assert_eq!(first(&all, &both, &end_point), (Mechanism::ScramSha512Plus, "p=tls-server-end-point".to_owned()));
    assert_eq!(first(&all, &both, &none), (Mechanism::ScramSha512, "n".to_owned()));
    assert_eq!(first(&all[3..], &none, &both), (Mechanism::ScramSha512, "y".to_owned()));
    let old = [Mechanism::ScramSha512, Mechanism::ScramSha1Plus];
    assert_eq!(first(&old, &both, &both).0, Mechanism::ScramSha1Plus);
}

#[test]
fn plain_is_chosen_only_where_it_is_allowed_and_nothing_else_is_offered() {
    let none = ChannelBindings::default();
    let choose = |offered: &[Mechanism], plain| {
        let log_in = client::LogIn { plain, ..log_in("pencil", &none) };
        client::Exchange::choose(&offer(&context(offered, &none)), &log_in, &mut Counting(0)).map(|e| e.mechanism())
    };
    assert_eq!(choose(&[Mechanism::Plain, Mechanism::ScramSha1], true), Ok(Mechanism::ScramSha1));
    assert_eq!(choose(&[Mechanism::Plain], true), Ok(Mechanism::Plain));
    assert_eq!(choose(&[Mechanism::Plain], false), Err(client::Error::NoMechanism));
}

#[test]
fn rfc4422_3_3_without_initial_data_the_first_challenge_is_empty() {
    let none = ChannelBindings::default();
    for mechanism in [Mechanism::ScramSha256, Mechanism::Plain] {
        let offered = [mechanism];
        let (mut exchange, step) =
            server::Exchange::start(mechanism, &context(&offered, &none), &mut Counting(0), None).expect("started");
        assert!(matches!(&step, Step::Challenge(data) if data.is_empty()), "{step:?}");
        let message: &[u8] = if mechanism == Mechanism::Plain { b"\0user\0pencil" } else { b"n,,n=user,r=abc" };
        assert!(matches!(exchange.respond(message), Ok(Step::Load { username }) if username == "user"));
    }
}

#[test]
fn rfc6120_6_3_8_the_own_address_may_be_the_authorization_identity() {
    let none = ChannelBindings::default();
    for mechanism in [Mechanism::ScramSha1, Mechanism::Plain] {
        let offered = [mechanism];
        let context = context(&offered, &none);
        for (authzid, expected) in [
            ("user@example.org", End::In),
            ("USER@Example.ORG", End::In),
            ("user", End::Server(Failure::InvalidAuthzid)),
            ("other@example.org", End::Server(Failure::InvalidAuthzid)),
            ("user@example.net", End::Server(Failure::InvalidAuthzid)),
            ("user@example.org/there", End::Server(Failure::InvalidAuthzid)),
            ("example.org", End::Server(Failure::InvalidAuthzid)),
            ("a=,b", End::Server(Failure::InvalidAuthzid)),
        ] {
            let log_in = client::LogIn { authzid: Some(authzid), ..log_in("pencil", &none) };
            let client = client::Exchange::choose(&offer(&context), &log_in, &mut Counting(0)).expect("chosen");
            assert_eq!(run(client, &context, Some(credentials())), expected, "{mechanism} {authzid}");
        }
    }
}

#[test]
fn rfc4013_names_and_passwords_are_prepared_at_both_ends() {
    let none = ChannelBindings::default();
    let kept = Credentials::derive("\u{2168}\u{a0}x", MIN_ITERATIONS, &mut Counting(0)).expect("fit");
    assert!(kept.check_password("IX x"));
    assert!(!kept.check_password("ix x"));
    for mechanism in [Mechanism::ScramSha256, Mechanism::Plain] {
        let offered = [mechanism];
        let context = context(&offered, &none);
        let log_in = client::LogIn { username: "User", ..log_in("I\u{ad}X x", &none) };
        let client = client::Exchange::choose(&offer(&context), &log_in, &mut Counting(0)).expect("chosen");
        assert_eq!(run(client, &context, Some(kept.clone())), End::In, "{mechanism}");
    }
}

#[test]
fn passwords_that_cannot_be_prepared_are_refused() {
    use crate::sasl::PasswordError;
    let derive = |password: &str| Credentials::derive(password, MIN_ITERATIONS, &mut Counting(0)).map(|_| ());
    assert_eq!(derive(""), Err(PasswordError::Empty));
    assert_eq!(derive("\u{ad}"), Err(PasswordError::Empty));
    assert_eq!(derive("\u{7}"), Err(PasswordError::Prohibited));
    assert_eq!(derive("\u{627}1"), Err(PasswordError::Prohibited));
    assert_eq!(derive(&"x".repeat(1025)), Err(PasswordError::TooLong));
}

#[test]
fn rfc7677_4_new_verifiers_have_their_iterations_within_bounds_and_salts_of_their_own() {
    let kept = Credentials::derive("pencil", 1, &mut Counting(0)).expect("fit");
    let mut salts = Vec::new();
    for hash in Hash::ALL {
        let verifier = kept.verifier(hash).expect("all are made");
        assert_eq!(verifier.iterations, MIN_ITERATIONS);
        assert_eq!((verifier.stored_key.len(), verifier.server_key.len()), (hash.len(), hash.len()));
        salts.push(verifier.salt.clone());
    }
    salts.dedup();
    assert_eq!(salts.len(), 3);
}

/// What a peer sees, and what it costs.
fn attempt(mechanism: Mechanism, name: &str, found: Option<Credentials>) -> (String, ops::Ops, Result<(), Failure>) {
    let none = ChannelBindings::default();
    let offered = [Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain];
    let context = context(&offered, &none);
    ops::take();
    if mechanism == Mechanism::Plain {
        let (mut exchange, _) = start(mechanism, &context, format!("\0{name}\0wrong").as_bytes()).expect("started");
        let Ok(Step::Check(check)) = exchange.loaded(found) else { panic!("a check is due") };
        let verdict = exchange.checked(check.run()).map(|_| ());
        return (String::new(), ops::take(), verdict);
    }
    let first = format!("n,,n={name},r=abc");
    let (mut exchange, challenge) = challenge(mechanism, &context, first.as_bytes(), found).expect("a challenge");
    let challenge = String::from_utf8(challenge).expect("text");
    let nonce = challenge.split(',').next().unwrap_or_default();
    let proof = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        vec![0; mechanism.hash().map_or(0, Hash::len)],
    );
    let verdict = exchange.respond(format!("c=biws,{nonce},p={proof}").as_bytes()).map(|_| ());
    (challenge, ops::take(), verdict)
}

#[test]
fn rfc5802_9_an_unknown_account_looks_and_costs_like_a_wrong_password() {
    let kept = credentials();
    for mechanism in [Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain] {
        let (known, known_cost, known_end) = attempt(mechanism, "user", Some(kept.clone()));
        let (unknown, unknown_cost, unknown_end) = attempt(mechanism, "user", None);
        let (lacking, lacking_cost, lacking_end) = attempt(mechanism, "user", Some(Credentials::default()));
        assert_eq!(known_cost, unknown_cost, "{mechanism}");
        assert_eq!(known_cost, lacking_cost, "{mechanism}");
        assert!(known_cost.hmacs > 0);
        assert_eq!(known.len(), unknown.len(), "{mechanism}");
        assert_eq!(unknown, lacking, "{mechanism}");
        let wrong = Err(Failure::NotAuthorized);
        assert_eq!((known_end, unknown_end, lacking_end), (wrong, wrong, wrong));
    }
}

#[test]
fn rfc5802_9_a_made_up_salt_stays_and_differs_by_name_and_hash() {
    let salt = |mechanism, name| {
        let (challenge, ..) = attempt(mechanism, name, None);
        challenge.split(',').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(salt(Mechanism::ScramSha1, "nobody"), salt(Mechanism::ScramSha1, "nobody"));
    assert_eq!(salt(Mechanism::ScramSha1, "nobody"), salt(Mechanism::ScramSha1, "NoBody"));
    assert_ne!(salt(Mechanism::ScramSha1, "nobody"), salt(Mechanism::ScramSha1, "noone"));
    assert_ne!(salt(Mechanism::ScramSha1, "nobody"), salt(Mechanism::ScramSha256, "nobody"));
}

#[test]
fn rfc5802_9_unknown_accounts_claim_the_iterations_that_new_accounts_get() {
    let none = ChannelBindings::default();
    let offered = [Mechanism::ScramSha1];
    for (asked, claimed) in [(1, "i=4096"), (10_000, "i=10000"), (u32::MAX, "i=10000000")] {
        let context = Context { fake_iterations: asked, ..context(&offered, &none) };
        let led = challenge(Mechanism::ScramSha1, &context, b"n,,n=nobody,r=abc", None);
        let challenge = String::from_utf8(led.expect("a challenge").1).expect("text");
        assert_eq!(challenge.split(',').nth(2), Some(claimed));
    }
}

#[test]
fn a_scram_log_in_costs_the_server_no_pbkdf2() {
    let (_, cost, _) = attempt(Mechanism::ScramSha256, "user", Some(credentials()));
    // XEP-0474's digest and H(ClientKey); both signatures and the made-up salt.
    assert_eq!(cost, ops::Ops { digests: 2, hmacs: 3, rounds: 0 });
}

#[test]
fn unsound_verifiers_count_as_none() {
    let mut kept = credentials();
    kept.sha256 = kept.sha256.map(|verifier| Verifier { stored_key: vec![1; 3], ..verifier });
    let (challenge, ..) = attempt(Mechanism::ScramSha256, "user", Some(kept.clone()));
    assert_eq!(challenge, attempt(Mechanism::ScramSha256, "user", None).0);
    assert!(kept.check_password("pencil"));
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let none = ChannelBindings::default();
    let offered = [Mechanism::Plain];
    let (mut exchange, _) = start(Mechanism::Plain, &context(&offered, &none), b"\0user\0pencil").expect("started");
    let shown = format!("{:?} {:?} {:?} {:?}", credentials(), credentials().sha1, bindings(), exchange);
    let step = format!("{:?}", exchange.loaded(Some(credentials())));
    assert_eq!(
        format!("{shown} {step}"),
        "Credentials[\"SHA-512\", \"SHA-256\", \"SHA-1\"] Some(Verifier { iterations: 4096, .. }) \
         [\"tls-exporter\", \"tls-server-end-point\"] \
         Exchange { mechanism: Plain, state: \"LoadingForPassword\", .. } Ok(Check(PasswordCheck { hash: Sha256, .. }))"
    );
}

#[test]
fn names_are_read_as_they_are_written() {
    for mechanism in Mechanism::BY_STRENGTH {
        assert_eq!(Mechanism::parse(mechanism.name()), Some(mechanism));
        assert_eq!(mechanism.is_plus(), mechanism.name().ends_with("-PLUS"));
        assert!(mechanism.hash().is_none_or(|hash| mechanism.name().contains(hash.name())));
    }
    assert_eq!(Mechanism::parse("scram-sha-1"), None);
    for kind in BindingType::BY_STRENGTH {
        assert_eq!(BindingType::parse(kind.name()), Some(kind));
    }
    for condition in ["aborted", "not-authorized", "temporary-auth-failure", "mechanism-too-weak"] {
        assert_eq!(Failure::parse(condition).map(Failure::condition), Some(condition));
    }
}
