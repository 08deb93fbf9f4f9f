//! What a person or an operator writes is what the server gets, and mistakes are named.

use std::{collections::HashMap, path::Path};

use starling_settings::{Error, Limit, LogFormat, Settings, default_toml, reference};

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Settings, Error> {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("starling-settings-{}-{:p}.toml", std::process::id(), file));
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let settings = Settings::load(Some(&path), environment);
    std::fs::remove_file(&path).unwrap();
    settings
}

#[test]
fn without_file_and_environment_the_defaults_hold() {
    assert_eq!(Settings::load(None, []).unwrap(), Settings::default());
    assert_eq!(load("", &[("PATH", "/bin")]).unwrap(), Settings::default());
}

#[test]
fn the_default_file_is_the_defaults_and_names_every_setting_with_its_variable() {
    let text = default_toml();
    assert_eq!(load(&text, &[]).unwrap(), Settings::default());
    for name in variables() {
        assert!(text.contains(&format!("# {name}\n")), "{name}");
        assert!(reference().contains(&format!("`{name}`")), "{name}");
    }
}

/// The names that the reference gives.
fn variables() -> Vec<String> {
    let reference = reference();
    let rows = reference.lines().filter_map(|line| line.split_once("<br>`"));
    let names: Vec<_> = rows.filter_map(|(_, rest)| rest.split_once('`')).map(|(name, _)| name.to_owned()).collect();
    assert!(names.len() > 30, "{names:?}");
    names
}

#[test]
fn no_two_settings_share_a_variable() {
    let mut seen = HashMap::new();
    for name in variables() {
        assert_eq!(seen.insert(name.clone(), ()), None, "{name}");
    }
}

#[test]
fn the_environment_overrides_the_file_whatever_the_type() {
    let file = "data = 'file'\n[c2s.limits]\ndepth = 9\nconnections = 5\n[log]\nlevel = 'warn'\n";
    let settings = load(
        file,
        &[
            ("STARLING_DATA", "/some/folder"),
            ("STARLING_LOG_FORMAT", "json"),
            ("STARLING_C2S_LIMITS_DEPTH", "10"),
            ("STARLING_C2S_LIMITS_CONNECTIONS", "off"),
            ("STARLING_C2S_LIMITS_BYTES_PER_SECOND", "\"off\""),
            ("STARLING_C2S_STARTTLS_LISTEN", "[\"[::1]:5222\", \"127.0.0.1:1\"]"),
            ("STARLING_C2S_STARTTLS_REQUIRED", "false"),
            ("STARLING_TLS_CERTIFICATES", "[{ certificate = 'a', key = 'b' }]"),
        ],
    )
    .unwrap();
    assert_eq!(settings.data, Path::new("/some/folder"));
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.log.level, "warn");
    assert_eq!(settings.c2s.limits.depth, 10);
    assert_eq!(settings.c2s.limits.connections, Limit(None));
    assert_eq!(settings.c2s.limits.bytes_per_second, Limit(None));
    assert_eq!(settings.c2s.starttls.listen, ["[::1]:5222", "127.0.0.1:1"]);
    assert!(!settings.c2s.starttls.required);
    assert_eq!(settings.tls.certificates.len(), 1);
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (file, environment, expected) in [
        ("nonsense = 1", None, "nonsense"),
        ("data = ", None, "line 1"),
        ("[c2s.limits]\ndepth = 'deep'", None, "line 2"),
        ("[c2s.limits]\nconnections = 0", None, "a whole number from 1"),
        ("[c2s.limits]\ndepth = 1", None, "c2s.limits.depth: not 8 or more"),
        ("domains = []", None, "domains: at least one"),
        ("[session]\nconflict = 'fight'", None, "replace"),
        ("", Some(("STARLING_DATTA", "x")), "did you mean STARLING_DATA?"),
        ("", Some(("STARLING_C2S_LIMITS_DEPTH", "deep")), "STARLING_C2S_LIMITS_DEPTH"),
        ("", Some(("STARLING_C2S_LIMITS_DEPTH", "-1")), "STARLING_C2S_LIMITS_DEPTH"),
        ("", Some(("STARLING_SESSION_CONFLICT", "fight")), "STARLING_SESSION_CONFLICT"),
        ("", Some(("STARLING_C2S_STARTTLS_LISTEN", "[1]")), "STARLING_C2S_STARTTLS_LISTEN"),
    ] {
        let environment: Vec<_> = environment.into_iter().collect();
        let error = load(file, &environment).unwrap_err().to_string();
        assert!(error.contains(expected), "{file:?} {environment:?}: {error}");
    }
    let missing = Settings::load(Some(Path::new("/nowhere/at/all.toml")), []).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/at/all.toml"));
}

#[test]
fn the_settings_for_tests_and_load_tools_are_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/open.toml");
    let environment = [("STARLING_DATA".to_owned(), "/some/folder".to_owned())];
    let settings = Settings::load(Some(&path), environment).unwrap();
    assert_eq!(settings.c2s.starttls.listen, ["127.0.0.1:15222"]);
    assert_eq!(settings.c2s.direct_tls.listen, ["127.0.0.1:15223"]);
    assert_eq!(settings.http.listen, "127.0.0.1:15280");
    assert!(!settings.c2s.starttls.required);
    assert!(settings.auth.mechanisms_without_tls.contains(&"PLAIN".to_owned()));
    assert_eq!(settings.c2s.limits.accept_per_second, Limit(None));
    assert_eq!(settings.admins, ["admin@localhost"]);
}
