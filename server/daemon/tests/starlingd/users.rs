//! `starlingd user`, with and without a running server.

use crate::{
    client::{Client, may_log_in},
    program::Place,
};

#[test]
fn accounts_are_managed_while_the_server_is_stopped() {
    let place = Place::new();
    place.succeed(&["user", "add", "bob@localhost"], "pencil\n");
    place.succeed(&["user", "add", "Alice@localhost"], "first");
    place.succeed(&["user", "passwd", "alice@localhost"], "second\n");
    assert_eq!(place.accounts(), ["alice@localhost", "bob@localhost"], "in order, and as RFC 7622 spells them");
    place.succeed(&["user", "remove", "bob@localhost"], "");
    assert_eq!(place.accounts(), ["alice@localhost"]);

    let server = place.start();
    assert!(may_log_in(&server, "alice", "second"));
    assert!(!may_log_in(&server, "alice", "first"));
    assert!(!may_log_in(&server, "bob", "pencil"));
    server.stop();
}

#[test]
fn accounts_are_managed_while_the_server_runs() {
    let place = Place::new();
    let server = place.start();
    assert!(place.accounts().is_empty());
    assert!(!may_log_in(&server, "alice", "first"), "nobody is there yet");
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    assert!(may_log_in(&server, "alice", "first"), "what is not there is not remembered as such");
    place.succeed(&["user", "passwd", "alice@localhost"], "second\n");
    assert!(may_log_in(&server, "alice", "second"));
    assert!(!may_log_in(&server, "alice", "first"), "old verifiers are not remembered");
    place.succeed(&["user", "add", "bob@localhost"], "pencil\n");
    assert_eq!(place.accounts(), ["alice@localhost", "bob@localhost"]);
    place.succeed(&["user", "remove", "alice@localhost"], "");
    assert!(!may_log_in(&server, "alice", "second"));
    assert_eq!(place.accounts(), ["bob@localhost"]);
    server.stop();
    assert_eq!(place.accounts(), ["bob@localhost"], "the same accounts by the other way");
}

#[test]
fn a_new_password_ends_the_streams_of_its_account_alone() {
    let place = Place::new();
    let server = place.start();
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    place.succeed(&["user", "add", "bob@localhost"], "pencil\n");
    let (one, two) = (Client::log_in(&server, "alice", "first"), Client::log_in(&server, "alice", "first"));
    let mut bob = Client::log_in(&server, "bob", "pencil");
    place.succeed(&["user", "passwd", "alice@localhost"], "second\n");
    for client in [one, two] {
        let last = client.read_to_end();
        assert!(last.contains("<reset ") && last.ends_with("</stream:stream>"), "{last}");
    }
    bob.send("<iq id='p' type='get' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert!(bob.read_past(">").contains("id='p'"));
}

#[test]
fn removal_ends_the_streams_of_the_account() {
    let place = Place::new();
    let server = place.start();
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    let client = Client::log_in(&server, "alice", "first");
    place.succeed(&["user", "remove", "alice@localhost"], "");
    let last = client.read_to_end();
    assert!(last.contains("<not-authorized ") && last.ends_with("</stream:stream>"), "{last}");
}

/// What is refused, and with which words, on both ways.
fn mistakes_are_refused(place: &Place) {
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    let refused = |arguments: &[&str], input, words: &str| {
        let errors = place.fail(arguments, input, 2);
        assert!(errors.contains(words), "{arguments:?}: {errors}");
    };
    refused(&["user", "add", "alice@localhost"], "other\n", "alice@localhost exists already");
    refused(&["user", "passwd", "bob@localhost"], "other\n", "bob@localhost does not exist");
    refused(&["user", "remove", "bob@localhost"], "", "bob@localhost does not exist");
    refused(&["user", "add", "bob@elsewhere.example"], "other\n", "elsewhere.example is not served");
    refused(&["user", "remove", "bob@elsewhere.example"], "", "bob@elsewhere.example does not exist");
    refused(&["user", "add", "localhost"], "other\n", "names no account");
    refused(&["user", "add", "bob@localhost/phone"], "other\n", "bob@localhost/phone");
    refused(&["user", "add", "b b@localhost"], "other\n", "b b@localhost");
    // SASLprep (RFC 4013 section 2.3) prohibits control characters; an empty password is no password.
    refused(&["user", "add", "bob@localhost"], "a\u{7}b\n", "password");
    refused(&["user", "add", "bob@localhost"], "\n", "password");
    refused(&["user", "add", "bob@localhost"], "", "password");
    assert_eq!(place.accounts(), ["alice@localhost"]);
}

#[test]
fn mistakes_are_refused_while_the_server_is_stopped() {
    mistakes_are_refused(&Place::new());
}

#[test]
fn mistakes_are_refused_while_the_server_runs() {
    let place = Place::new();
    let server = place.start();
    mistakes_are_refused(&place);
    server.stop();
}

#[test]
fn a_socket_that_a_killed_server_left_is_in_nobodys_way() {
    let place = Place::new();
    let mut server = place.start();
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    server.signal("KILL");
    server.ended();
    assert!(place.data().join("admin.sock").exists(), "otherwise this shows nothing");
    assert_eq!(place.accounts(), ["alice@localhost"], "what was answered is on the disk");
    let server = place.start();
    assert_eq!(place.accounts(), ["alice@localhost"]);
    server.stop();
}

#[test]
fn a_data_folder_with_a_path_longer_than_a_sockets_can_be_administered() {
    let place = Place::new();
    let long = place.data().join("x".repeat(120)).display().to_string();
    let place = place.with("STARLING_DATA", &long);
    let server = place.start();
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    assert!(may_log_in(&server, "alice", "first"));
    server.stop();
}
