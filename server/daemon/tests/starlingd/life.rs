//! `starlingd run`, from its start to its end.

use std::collections::HashSet;

use crate::{client::Client, program::Place};

#[test]
fn it_says_what_it_listens_on() {
    let place = Place::new();
    let server = place.start();
    for role in ["c2s-starttls", "c2s-direct-tls", "http"] {
        let address: std::net::SocketAddr = server.address(role).parse().unwrap();
        assert_ne!(address.port(), 0, "{role}");
    }
    assert!(server.address("admin").ends_with("/admin.sock"));
    server.stop();
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let place = Place::new();
    let server = place.start();
    let errors = place.fail(&["run"], "", 1);
    assert!(errors.contains(&format!("is in use by process {}", server.process())), "{errors}");
    assert!(place.accounts().is_empty(), "the first one still answers");
    server.stop();
    place.start().stop();
}

#[test]
fn an_address_in_use_is_told_and_ends_with_1() {
    let (place, other) = (Place::new(), Place::new());
    let server = place.start();
    for (variable, role) in [
        ("STARLING_C2S_STARTTLS_LISTEN", "c2s-starttls"),
        ("STARLING_C2S_DIRECT_TLS_LISTEN", "c2s-direct-tls"),
        ("STARLING_HTTP_LISTEN", "http"),
    ] {
        let address = server.address(role);
        let value = if role == "http" { address.to_owned() } else { format!("[\"{address}\"]") };
        let mut command = other.command(&["run"]);
        let output = command.env(variable, value).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        // Logs are JSON here, and so is the last word.
        let event: serde_json::Value = serde_json::from_str(errors.lines().last().unwrap()).unwrap();
        assert_eq!(event["level"], "ERROR");
        assert!(errors.contains(&format!("cannot listen on {address} ({role})")), "{errors}");
    }
    server.stop();
}

#[test]
fn rfc6120_4_9_3_20_a_stop_ends_streams_with_system_shutdown() {
    let place = Place::new();
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    for signal in ["TERM", "INT"] {
        let mut server = place.start();
        let (one, two) = (Client::log_in(&server, "alice", "first"), Client::connect(&server));
        server.signal(signal);
        for client in [one, two] {
            let last = client.read_to_end();
            assert!(last.contains("<system-shutdown ") && last.ends_with("</stream:stream>"), "{last}");
        }
        assert_eq!(server.ended().code(), Some(0), "{}", server.log.join("\n"));
        assert_eq!(server.events().last().unwrap()["orderly"], true);
        assert!(!place.data().join("admin.sock").exists());
    }
}

#[test]
fn readiness_ends_when_the_stop_begins_and_a_second_signal_stops_at_once() {
    let place = Place::new();
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    let mut server = place.start();
    assert_eq!(server.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(server.get("/healthz").0, 200);
    assert_eq!(server.get("/nothing").0, 404);
    // A client that does not end its own side is waited for.
    let mut client = Client::log_in(&server, "alice", "first");
    server.signal("TERM");
    client.read_past("</stream:stream>");
    let (status, body) = server.get("/readyz");
    assert_eq!((status, body.as_str()), (503, "draining\n"));
    assert_eq!(server.get("/healthz").0, 200, "it lives until it has stopped");
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(1), "{}", server.log.join("\n"));
    assert!(server.events().any(|event| event["message"] == "Stopped at once"));
}

#[test]
fn a_hang_up_reads_certificates_again() {
    let place = Place::new();
    let mut server = place.start();
    server.signal("HUP");
    server.wait_for("Certificates read again");
    server.stop();
}

#[test]
fn the_self_signed_certificate_is_kept_and_its_fingerprint_told() {
    let place = Place::new();
    let mut fingerprints = HashSet::new();
    for _ in 0..2 {
        let server = place.start();
        let told = server.events().find_map(|event| event["sha256"].as_str().map(str::to_owned)).unwrap();
        server.stop();
        let bytes = told.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>();
        let pem = std::fs::read(place.data().join("tls/self-signed.crt")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &pem.contents);
        assert_eq!(bytes, digest.as_ref());
        fingerprints.insert(told);
    }
    assert_eq!(fingerprints.len(), 1);
}

#[test]
fn metrics_can_be_read_by_prometheus() {
    let place = Place::new();
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    let server = place.start();
    let _client = Client::log_in(&server, "alice", "first");
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200);
    let (mut types, mut series) = (HashSet::new(), HashSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name), "twice: {line}");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(series.insert(name), "twice: {line}");
            let name = name.split('{').next().unwrap();
            let family = |suffix| name.strip_suffix(suffix).is_some_and(|name| types.contains(name));
            assert!(types.contains(name) || ["_bucket", "_sum", "_count"].into_iter().any(family), "{line}");
        }
    }
    assert!(text.contains("\nstarling_sessions 1\n"), "{text}");
    for name in ["process_open_fds", "process_resident_memory_bytes", "starling_build_info"] {
        assert!(types.contains(name), "{name}");
    }
    server.stop();
}
