//! `starlingd check log-in`, against a server that runs.

use crate::program::{Place, Running};

const ALICE: &str = "alice@localhost";

fn log_in(place: &Place, server: &Running, more: &[&str], password: &str, code: i32) -> String {
    let address = server.address("c2s-starttls");
    let mut arguments = vec!["check", "log-in", ALICE, "--server", address];
    arguments.extend(more);
    let finished = place.run(&arguments, password);
    assert_eq!(finished.code, Some(code), "{}{}", finished.output, finished.errors);
    finished.output + &finished.errors
}

#[test]
fn a_log_in_is_checked_by_the_certificate_of_the_server() {
    let place = Place::new();
    place.succeed(&["user", "add", ALICE], "pencil\n");
    let server = place.start();
    let said = log_in(&place, &server, &[], "pencil\n", 1);
    assert!(said.contains("TLS: invalid peer certificate"), "{said}");

    let certificate = place.data().join("tls/self-signed.crt").display().to_string();
    let said = log_in(&place, &server, &["--ca", &certificate], "pencil\n", 0);
    assert!(said.starts_with("Logged in as alice@localhost/") && said.ends_with(", by TLSv1.3.\n"), "{said}");
    log_in(&place, &server, &["--any-certificate"], "pencil\n", 0);
    log_in(&place, &server, &["--any-certificate", "--ca", &certificate], "pencil\n", 2);
    let whole = std::fs::read_to_string(&certificate).unwrap();
    let begun = whole.lines().take(3).fold(whole.clone(), |begun, line| begun + line + "\n");
    for (broken, why) in [(begun, "end"), (String::new(), "no certificates")] {
        let file = place.file("broken.crt", &broken).display().to_string();
        let said = log_in(&place, &server, &["--ca", &file], "pencil\n", 2);
        assert!(said.contains("broken.crt: ") && said.contains(why), "{said}");
    }

    let file = place.file("password", "pencil\nnot this\n").display().to_string();
    log_in(&place, &server, &["--any-certificate", "--password-file", &file], "", 0);
    let said = log_in(&place, &server, &["--any-certificate"], "pen-and-ink\n", 1);
    assert!(said.contains("not-authorized") && !said.contains("pen-and-ink"), "{said}");
    server.stop();
    let gone = place.fail(&["check", "log-in", ALICE, "--server", "127.0.0.1:1"], "pencil\n", 1);
    assert!(gone.starts_with("starlingd: log-in as alice@localhost: connection: "), "{gone}");
}

#[test]
fn a_password_is_not_sent_to_whoever_has_any_certificate() {
    let place = Place::new().with("STARLING_AUTH_MECHANISMS", r#"["PLAIN"]"#);
    place.succeed(&["user", "add", ALICE], "pencil\n");
    let server = place.start();
    let said = log_in(&place, &server, &["--any-certificate"], "pencil\n", 1);
    assert!(said.contains("no mechanism"), "{said}");
    let certificate = place.data().join("tls/self-signed.crt").display().to_string();
    log_in(&place, &server, &["--ca", &certificate], "pencil\n", 0);
    server.stop();
}
