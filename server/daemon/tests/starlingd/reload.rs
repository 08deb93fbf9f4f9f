//! Settings that are read again while the program runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    client::Client,
    program::{Place, Running},
};

const TAKEN_UP: &str = "Settings taken up";
const FAULTY: &str = "Settings cannot be used as they are now; the old ones stay";
const RESTART: &str = "Settings differ from what runs until a restart";
const NOTHING: &str = "Settings read again; there is nothing to take up";

/// A server with a file of settings of its own, in which `content` stands.
fn start(content: &str) -> (Place, PathBuf, Running) {
    let place = Place::new();
    let file = place.file("starling.toml", content);
    let server = place.start_with(&["--config", file.to_str().unwrap()]);
    (place, file, server)
}

/// The value of a metric.
fn metric(server: &Running, name: &str) -> i64 {
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200);
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn gauges(server: &Running) -> (i64, i64) {
    (metric(server, "starling_settings_faulty"), metric(server, "starling_settings_restart_needed"))
}

/// Puts another file in the place of the old one, as editors do: no moment in which there is half of it.
fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, file).unwrap();
}

#[test]
fn another_log_level_counts_at_once() {
    let (place, file, mut server) = start("[log]\nlevel = 'info'\n");
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    let debugs = |server: &Running| server.events().filter(|event| event["level"] == "DEBUG").count();
    drop(Client::log_in(&server, "alice", "first"));
    replace(&file, "[log]\nlevel = 'info,starling_c2s=debug'\n");
    assert_eq!(server.wait_for(TAKEN_UP)["settings"], "log.level");
    assert_eq!(debugs(&server), 0, "{}", server.log.join("\n"));
    drop(Client::log_in(&server, "alice", "first"));
    assert_eq!(server.wait_for("Resource bound.")["level"], "DEBUG");
    replace(&file, "");
    server.wait_for(TAKEN_UP);
    let before = debugs(&server);
    drop(Client::log_in(&server, "alice", "first"));
    let log = server.stop();
    assert_eq!(log.iter().filter(|line| line.contains("\"DEBUG\"")).count(), before, "{}", log.join("\n"));
}

#[test]
fn limits_count_for_the_next_connection_and_leave_those_that_are_there() {
    let (place, file, mut server) = start("");
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    let mut inside = Client::log_in(&server, "alice", "first");
    replace(&file, "[c2s.limits]\nconnections = 1\nstanza_bytes = 10000\n");
    let taken_up = server.wait_for(TAKEN_UP);
    assert_eq!(taken_up["settings"], "c2s.limits.connections c2s.limits.stanza_bytes");
    let mut refused = Client::dial(&server);
    refused.send_header();
    assert!(refused.read_to_end().contains("<resource-constraint "));
    // Larger than what the next one may send.
    let ping = |padding: usize| {
        let padding = "x".repeat(padding);
        format!("<iq id='{}' type='get' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>", padding)
    };
    inside.send(&ping(20_000));
    assert!(inside.read_past("/>").contains("type='result'"));
    drop(inside);
    replace(&file, "[c2s.limits]\nstanza_bytes = 10000\n");
    server.wait_for(TAKEN_UP);
    let mut held = Client::log_in(&server, "alice", "first");
    held.send(&ping(20_000));
    assert!(held.read_to_end().contains("<policy-violation "));
    server.stop();
}

#[test]
fn networks_that_are_trusted_from_now_on_say_whose_connection_they_forward() {
    let (_place, file, mut server) = start("");
    // Nobody is trusted: a header is no stream.
    let mut untrusted = Client::dial(&server);
    untrusted.send("PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n");
    untrusted.send_header();
    assert!(untrusted.read_to_end().contains("<stream:error>"));
    replace(&file, "[c2s.proxy_protocol]\ntrusted = ['127.0.0.0/8']\n");
    assert_eq!(server.wait_for(TAKEN_UP)["settings"], "c2s.proxy_protocol.trusted");
    let mut trusted = Client::dial(&server);
    trusted.send("PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n");
    trusted.open();
    assert!(!trusted.authenticate("nobody", "wrong"));
    let failed = server.wait_for("Log-in failed.");
    assert_eq!(failed["address"], "192.0.2.7");
    server.stop();
}

#[test]
fn registration_is_offered_to_the_next_stream_and_taken_from_those_that_are_there() {
    const SUB: &str = "<iq id='r' type='set'><query xmlns='jabber:iq:register'><username>new</username>\
                       <password>secret</password></query></iq>";
    const OPEN: &str = "[registration]\nenabled = true\n";
    let (place, file, mut server) = start("");
    assert!(!Client::dial(&server).open().contains("iq-register"));
    replace(&file, OPEN);
    assert_eq!(server.wait_for(TAKEN_UP)["settings"], "registration.enabled");
    let (mut one, mut two) = (Client::dial(&server), Client::dial(&server));
    assert!(one.open().contains("iq-register") && two.open().contains("iq-register"));
    one.send(SUB);
    assert!(one.read_past(">").contains("type='result'"));
    assert_eq!(place.accounts(), ["new@localhost"]);
    let mut known = Client::log_in(&server, "new", "secret");
    let ask = "<iq id='q' type='get' to='localhost'><query xmlns='jabber:iq:register'/></iq>";
    known.send(ask);
    assert!(known.read_past("</iq>").contains("<registered"));
    replace(&file, "");
    server.wait_for(TAKEN_UP);
    two.send(&SUB.replace("new", "other"));
    assert!(two.read_past("</iq>").contains("<not-allowed "));
    known.send(ask);
    assert!(known.read_past("</iq>").contains("<service-unavailable "));
    assert_eq!(place.accounts(), ["new@localhost"]);
    assert!(!Client::dial(&server).open().contains("iq-register"));
    server.stop();
}

#[test]
fn a_faulty_file_changes_nothing_and_is_told_until_it_is_mended() {
    let (_place, file, mut server) = start("[log]\nlevel = 'info'\n");
    assert_eq!(gauges(&server), (0, 0));
    for (content, words) in [
        ("nonsense = 1\n", "nonsense"),
        ("[c2s.limits]\nconnections = 1\ndepth = 1\n", "c2s.limits.depth"),
        ("[log]\nlevel = 'loud=loud'\n", "log.level"),
        ("domains = ['a b']\n[c2s.limits]\nconnections = 1\n", "domains"),
        ("[[tls.certificates]]\ncertificate = 'nowhere.crt'\nkey = 'nowhere.key'\n", "nowhere.crt"),
    ] {
        replace(&file, content);
        let told = server.wait_for(FAULTY);
        assert_eq!(told["level"], "ERROR");
        assert!(told["error"].as_str().unwrap().contains(words), "{told}");
        assert_eq!(gauges(&server), (1, 0), "{content}");
    }
    let _two = (Client::connect(&server), Client::connect(&server));
    fs::remove_file(&file).unwrap();
    assert!(server.wait_for(FAULTY)["error"].as_str().unwrap().contains("starling.toml"));
    // What ran all the time is nothing new.
    replace(&file, "[log]\nlevel = 'info'\n");
    server.wait_for(NOTHING);
    assert_eq!(gauges(&server), (0, 0));
    server.stop();
}

#[test]
fn what_needs_a_restart_is_told_by_its_path_and_the_rest_is_taken_up() {
    let (place, file, mut server) = start("");
    replace(&file, "domains = ['localhost', 'other.example']\n[c2s.limits]\ndepth = 32\n[archive]\nenabled = false\n");
    assert_eq!(server.wait_for(TAKEN_UP)["settings"], "c2s.limits.depth");
    let told = server.wait_for(RESTART);
    assert_eq!((&told["level"], &told["settings"]), (&"WARN".into(), &"domains archive.enabled".into()));
    assert_eq!(gauges(&server), (0, 1));
    // It is not served yet.
    let refused = place.fail(&["user", "add", "alice@other.example", "--config", file.to_str().unwrap()], "first\n", 2);
    assert!(refused.contains("not of a domain that is served here"), "{refused}");
    replace(&file, "[c2s.limits]\ndepth = 32\n");
    server.wait_for(NOTHING);
    assert_eq!(gauges(&server), (0, 0));
    server.stop();
}

#[test]
fn a_hang_up_reads_the_settings_again_and_tells_what_came_of_it() {
    let (_place, file, mut server) = start("");
    server.signal("HUP");
    server.wait_for("Certificates read again");
    server.wait_for(NOTHING);
    replace(&file, "nonsense = 1\n");
    server.wait_for(FAULTY);
    for _ in 0..2 {
        server.signal("HUP");
        server.wait_for(FAULTY);
    }
    assert_eq!(gauges(&server), (1, 0));
    server.stop();
}

#[test]
fn the_environment_stays_over_a_file_that_is_read_again() {
    let place = Place::new().with("STARLING_C2S_LIMITS_DEPTH", "40");
    let file = place.file("starling.toml", "");
    let mut server = place.start_with(&["--config", file.to_str().unwrap(), "--roles", "c2s"]);
    replace(&file, "roles = ['c2s', 'session']\n[c2s.limits]\ndepth = 50\nattributes = 50\n");
    assert_eq!(server.wait_for(TAKEN_UP)["settings"], "c2s.limits.attributes");
    assert_eq!(gauges(&server), (0, 0));
    server.stop();
}

#[test]
fn a_symlink_swap_as_by_kubernetes_is_seen_each_time() {
    let place = Place::new();
    let mount = place.file("mounted", "").with_file_name("mount");
    let publish = |version: &str, content: &str| {
        let folder = mount.join(version);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("starling.toml"), content).unwrap();
        symlink(version, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    publish("..one", "");
    symlink("..data/starling.toml", mount.join("starling.toml")).unwrap();
    let file = mount.join("starling.toml");
    let mut server = place.start_with(&["--config", file.to_str().unwrap()]);
    for (version, before, depth) in [("..two", "..one", 30), ("..three", "..two", 31), ("..four", "..three", 32)] {
        publish(version, &format!("[c2s.limits]\ndepth = {depth}\n"));
        fs::remove_dir_all(mount.join(before)).unwrap();
        assert_eq!(server.wait_for(TAKEN_UP)["settings"], "c2s.limits.depth");
    }
    server.stop();
}

#[test]
fn a_process_without_client_connections_has_no_certificate() {
    let place = Place::new().with("STARLING_ROLES", r#"["session"]"#);
    let file = place.file("starling.toml", "");
    let mut server = place.start_with(&["--config", file.to_str().unwrap()]);
    assert!(!place.data().join("tls").exists());
    assert!(server.events().all(|event| event["level"] == "INFO"), "{}", server.log.join("\n"));
    let (_, metrics) = server.get("/metrics");
    assert!(!metrics.contains("starling_certificates") && metrics.contains("starling_sessions"), "{metrics}");
    assert!(!server.addresses.contains_key("c2s-starttls"));
    // It takes up what it can all the same.
    replace(&file, "[session]\noffline_messages = 7\n");
    assert_eq!(server.wait_for(TAKEN_UP)["settings"], "session.offline_messages");
    server.signal("HUP");
    server.wait_for(NOTHING);
    server.stop();
}
