//! `starlingd user import`, with and without a running server.

use crate::{
    client::{Client, may_log_in},
    program::Place,
};

/// `user0000@localhost password0000` and so on.
fn lines(count: usize) -> String {
    (0..count).map(|number| format!("user{number:04}@localhost password{number:04}\n")).collect()
}

fn everything_is_imported(place: &Place) {
    // More than a transaction and more than a page hold.
    let content = format!("# Accounts of a test\n\n{}", lines(1005));
    let file = place.file("accounts", &content);
    let output = place.succeed(&["user", "import", file.to_str().unwrap()], "");
    assert!(output.contains("1005"), "{output}");
    let accounts = place.accounts();
    assert_eq!(accounts.len(), 1005);
    assert_eq!(accounts.first().unwrap(), "user0000@localhost");
    assert_eq!(accounts.last().unwrap(), "user1004@localhost");
}

#[test]
fn many_accounts_are_imported_while_the_server_is_stopped() {
    let place = Place::new();
    everything_is_imported(&place);
    let server = place.start();
    assert!(may_log_in(&server, "user0000", "password0000"));
    assert!(may_log_in(&server, "user1004", "password1004"));
    assert!(!may_log_in(&server, "user1004", "password1003"));
    server.stop();
}

#[test]
fn many_accounts_are_imported_while_the_server_runs() {
    let place = Place::new();
    let server = place.start();
    everything_is_imported(&place);
    assert!(may_log_in(&server, "user0999", "password0999"));
    assert!(may_log_in(&server, "user1000", "password1000"));
    server.stop();
}

#[test]
fn a_bad_line_names_its_number_and_nothing_is_imported() {
    let place = Place::new();
    let good = "# comment\n\nalice@localhost one\n";
    for (bad, words) in [
        ("bob@localhost", "line 4"),
        ("bob@localhost ", "line 4"),
        ("@localhost two", "line 4"),
        ("bob@elsewhere.example two", "elsewhere.example"),
        ("localhost two", "line 4"),
        ("bob@localhost/phone two", "line 4"),
        ("bob@localhost t\u{7}o", "line 4"),
    ] {
        let errors = place.fail(&["user", "import", "-"], &format!("{good}{bad}\ncarol@localhost three\n"), 2);
        assert!(errors.contains("line 4") && errors.contains(words), "{bad:?}: {errors}");
        assert!(place.accounts().is_empty(), "{bad:?}");
    }
    let missing = place.fail(&["user", "import", "nowhere"], "", 1);
    assert!(missing.contains("nowhere"), "{missing}");
}

#[test]
fn a_password_may_hold_spaces() {
    let place = Place::new();
    place.succeed(&["user", "import", "-"], "alice@localhost correct horse  battery \r\nbob@localhost\ttab\n");
    let server = place.start();
    assert!(may_log_in(&server, "alice", "correct horse  battery "));
    assert!(may_log_in(&server, "bob", "tab"));
    server.stop();
}

#[test]
fn accounts_that_exist_are_an_error_unless_said_otherwise() {
    let place = Place::new();
    let server = place.start();
    place.succeed(&["user", "add", "alice@localhost"], "old\n");
    let content = "alice@localhost new\nbob@localhost pencil\n";
    let errors = place.fail(&["user", "import", "-"], content, 2);
    assert!(errors.contains("alice@localhost") && errors.contains("--skip"), "{errors}");
    assert!(may_log_in(&server, "alice", "old"));

    let output = place.succeed(&["user", "import", "--skip", "-"], content);
    assert!(output.contains("existed already"), "{output}");
    assert!(may_log_in(&server, "alice", "old"));
    assert!(may_log_in(&server, "bob", "pencil"));

    let client = Client::log_in(&server, "alice", "old");
    place.succeed(&["user", "import", "--replace", "-"], content);
    assert!(client.read_to_end().contains("<reset "), "the password has changed");
    assert!(may_log_in(&server, "alice", "new"));
    assert!(!may_log_in(&server, "alice", "old"));
    place.fail(&["user", "import", "--replace", "--skip", "-"], content, 2);
    server.stop();
}

#[test]
fn an_account_that_stands_twice_in_the_file_is_told() {
    let place = Place::new();
    let errors = place.fail(&["user", "import", "-"], "alice@localhost one\nAlice@localhost two\n", 2);
    assert!(errors.contains("alice@localhost"), "{errors}");
}
