//! `starlingd config`, and what mistakes in settings are told like.

use std::path::Path;

use crate::program::Place;

/// Paths of all settings in a table.
fn keys(prefix: &str, table: &toml::Table, found: &mut Vec<String>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => keys(&path, inner, found),
            _ => found.push(path),
        }
    }
}

#[test]
fn the_default_file_is_valid_and_the_reference_has_every_key() {
    let place = Place::new();
    let text = place.succeed(&["config", "default"], "");
    let file = place.file("default.toml", &text);
    place.succeed(&["config", "check", "--config", file.to_str().unwrap()], "");
    let mut paths = Vec::new();
    keys("", &text.parse().unwrap(), &mut paths);
    assert!(paths.len() > 30, "{paths:?}");
    let reference = place.succeed(&["config", "reference"], "");
    for path in paths {
        let variable = format!("STARLING_{}", path.replace('.', "_").to_uppercase());
        assert!(reference.contains(&format!("`{path}`")), "{path}");
        assert!(reference.contains(&format!("`{variable}`")), "{variable}");
    }
}

#[test]
fn every_command_takes_the_file() {
    let place = Place::new();
    let file = place.file("starling.toml", "domains = ['only.example']\n");
    let file = file.to_str().unwrap();
    let refused = place.fail(&["user", "add", "alice@localhost", "--config", file], "first\n", 2);
    assert!(refused.contains("localhost is not served"), "{refused}");
    place.succeed(&["user", "add", "alice@only.example", "--config", file], "first\n");
    let server = place.start_with(&["--config", file]);
    let ready = server.events().last().unwrap();
    assert_eq!(ready["domains"], "only.example");
    server.stop();
}

#[test]
fn the_environment_overrides_the_file() {
    let place = Place::new();
    let file = place.file("starling.toml", "domains = ['only.example']\n");
    let place = place.with("STARLING_DOMAINS", r#"["other.example"]"#);
    place.succeed(&["user", "add", "alice@other.example", "--config", file.to_str().unwrap()], "first\n");
}

#[test]
fn mistakes_name_the_setting_and_end_with_2() {
    let place = Place::new();
    for (content, words) in [
        ("[c2s.limits]\ndeep = 3\n", "deep"),
        ("[c2s.limits]\ndepth = 'deep'\n", "depth"),
        ("[c2s.limits]\ndepth = 1\n", "c2s.limits.depth"),
        ("domains = []\n", "domains"),
        ("domains = ['a b']\n", "domains"),
        ("admins = ['@localhost']\n", "admins"),
        ("[auth]\nmechanisms = ['CRAM-MD5']\n", "auth.mechanisms"),
        ("[auth]\nmax_attempts = 0\n", "auth.max_attempts"),
        ("[log]\nlevel = 'starling=loud'\n", "log.level"),
        ("[log]\nformat = 'xml'\n", "format"),
        ("[c2s.proxy_protocol]\ntrusted = ['10.0.0.0/99']\n", "c2s.proxy_protocol.trusted"),
        ("[[tls.certificates]]\ncertificate = 'a.crt'\n", "tls.certificates"),
        ("not toml", "bad.toml"),
    ] {
        let file = place.file("bad.toml", content);
        for command in [&["config", "check"][..], &["run"], &["user", "list"]] {
            let arguments = [command, &["--config", file.to_str().unwrap()]].concat();
            let errors = place.fail(&arguments, "", 2);
            assert!(errors.contains(words), "{content}: {errors}");
        }
    }
    assert!(!place.data().exists(), "nothing was begun");
    let errors = place.fail(&["config", "check", "--config", "nowhere.toml"], "", 2);
    assert!(errors.contains("nowhere.toml"), "{errors}");
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    for (name, value, words) in [
        ("STARLING_C2S_LIMITS_DEPHT", "9", "STARLING_C2S_LIMITS_DEPTH"),
        ("STARLING_C2S_LIMITS_DEPTH", "deep", "STARLING_C2S_LIMITS_DEPTH"),
        ("STARLING_C2S_LIMITS_DEPTH", "1", "c2s.limits.depth"),
        ("STARLING_C2S_STARTTLS_LISTEN", r#"["localhost"]"#, "c2s.starttls.listen"),
        ("STARLING_HTTP_LISTEN", "everywhere", "http.listen"),
    ] {
        let errors = Place::new().with(name, value).fail(&["config", "check"], "", 2);
        assert!(errors.contains(words), "{name}: {errors}");
    }
}

#[test]
fn certificates_that_cannot_be_used_are_told_by_the_check_and_by_the_start() {
    let place = Place::new();
    let content = "[[tls.certificates]]\ncertificate = 'a.crt'\nkey = 'a.key'\n";
    let file = place.file("starling.toml", content);
    for command in [&["config", "check"][..], &["run"]] {
        let errors = place.fail(&[command, &["--config", file.to_str().unwrap()]].concat(), "", 2);
        assert!(errors.contains("tls.certificates") && errors.contains("a.crt"), "{errors}");
    }
}

#[test]
fn the_settings_for_tests_are_valid() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/open.toml");
    Place::new().succeed(&["config", "check", "--config", file.to_str().unwrap()], "");
}

#[test]
fn the_reference_of_metrics_has_those_of_every_part() {
    let reference = Place::new().succeed(&["metrics"], "");
    for metric in [
        "process_cpu_seconds_total",
        "starling_build_info",
        "starling_certificates_faulty",
        "starling_settings_faulty",
        "starling_settings_restart_needed",
        "starling_sessions",
        "starling_c2s_connections",
        "starling_journal_queue",
        "starling_registry_available",
        "starling_link_routers",
        "starling_router_dropped_total",
    ] {
        assert!(reference.contains(&format!("| `{metric}` |")), "{metric}: {reference}");
    }
}
