//! What a person or an operator writes is what the server gets, and mistakes are named.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::{collections::HashSet, path::Path};

use starling_settings::{Error, Limit, LogFormat, Settings, default_toml, reference, reloaded};

fn is_reloaded(path: &str) -> bool {
    reloaded().any(|reloaded| reloaded == path)
}

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Settings, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("starling.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(Some(&path), environment)
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

#[test]
fn what_is_put_over_settings_is_what_comes_out_and_what_is_written_is_what_is_read() {
    let values =
        [("c2s.limits.depth", "32".to_owned()), ("log.level", "debug".to_owned()), ("domains", "[\"a\"]".to_owned())];
    let settings = Settings::default().with(values).unwrap();
    assert_eq!((settings.c2s.limits.depth, settings.log.level.as_str()), (32, "debug"));
    assert_eq!(settings.domains, ["a"]);
    let text = settings.to_toml().unwrap();
    assert_eq!(load(&text, &[]).unwrap(), settings);
    // Nothing else is written: a server of another release must not stumble over what it does not know.
    assert_eq!(text.lines().filter(|line| line.contains('=')).count(), 3, "{text}");
    assert_eq!(Settings::default().to_toml().unwrap(), "");
}

#[test]
fn what_cannot_be_put_over_settings_is_named_by_its_path() {
    let refused =
        |path: &str, value: &str| Settings::default().with([(path, value.to_owned())]).unwrap_err().to_string();
    assert_eq!(refused("c2s.limits.dept", "1"), "c2s.limits.dept: no such setting; did you mean c2s.limits.depth?");
    assert!(refused("c2s.limits.depth", "many").starts_with("c2s.limits.depth: "));
    assert!(refused("c2s.limits.depth", "\"many\"").starts_with("c2s.limits.depth: "));
    assert!(refused("session.conflict", "fight").starts_with("session.conflict: "));
}

/// Path, variable, type and default of each setting, as the reference gives them.
fn rows() -> Vec<[String; 4]> {
    let reference = reference();
    let rows = reference.lines().filter_map(|line| {
        let (path, rest) = line.strip_prefix("| `")?.split_once("`<br>`")?;
        let (variable, rest) = rest.split_once("` | ")?;
        let (kind, rest) = rest.split_once(" | `")?;
        let (default, _) = rest.split_once("` | ")?;
        Some([path, variable, kind, default].map(str::to_owned))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 30, "{rows:?}");
    rows
}

fn variables() -> Vec<String> {
    rows().into_iter().map(|[_, variable, ..]| variable).collect()
}

#[test]
fn no_two_settings_share_a_variable() {
    let mut seen = HashSet::new();
    for name in variables() {
        assert!(seen.insert(name.clone()), "{name}");
    }
}

#[test]
fn each_documented_default_is_what_holds_and_its_variable_sets_that_setting() {
    let defaults = toml::Table::try_from(Settings::default()).unwrap();
    for [path, variable, kind, default] in rows() {
        let names: Vec<_> = path.split('.').collect();
        let (last, sections) = names.split_last().unwrap();
        let table = sections.iter().fold(&defaults, |table, name| table[*name].as_table().unwrap());
        let written: toml::Table = format!("value = {default}").parse().unwrap();
        assert_eq!(table[*last], written["value"], "{path}");

        let is_text = kind == "string" || kind == "choice";
        let value = if is_text { written["value"].as_str().unwrap() } else { default.as_str() };
        assert_eq!(load("", &[(&variable, value)]).unwrap(), Settings::default(), "{variable}");
        if path == "link.routers" {
            // It needs others, in other tables.
            continue;
        }
        // The variable wins over another value at that path, and so goes nowhere else.
        let other = other(&path, &written["value"]);
        let file = if sections.is_empty() {
            format!("{last} = {other}\n")
        } else {
            format!("[{}]\n{last} = {other}\n", sections.join("."))
        };
        assert_ne!(load(&file, &[]).unwrap(), Settings::default(), "{file}");
        assert_eq!(load(&file, &[(&variable, value)]).unwrap(), Settings::default(), "{variable}");
    }
}

/// A value that the setting may have and that is not its default.
fn other(path: &str, default: &toml::Value) -> String {
    match (path, default) {
        ("log.format", _) => "'json'".to_owned(),
        ("session.conflict", _) => "'rename'".to_owned(),
        ("http.listen", _) => "''".to_owned(),
        ("domains" | "admins", _) => "['other.example']".to_owned(),
        ("roles", _) => "['c2s']".to_owned(),
        ("database.url", _) => "'postgres://localhost/other'".to_owned(),
        ("database.migrate", _) => "'wait'".to_owned(),
        ("redis.mode", _) => "'cluster'".to_owned(),
        ("redis.servers" | "router.listen" | "link.name_servers", _) => "['127.0.0.1:1']".to_owned(),
        ("auth.mechanisms", _) => "['PLAIN']".to_owned(),
        ("auth.mechanisms_without_tls", _) => "['PLAIN']".to_owned(),
        ("tls.certificates", _) => "[{ certificate = 'a', key = 'b' }]".to_owned(),
        ("c2s.proxy_protocol.trusted", _) => "['10.0.0.0/8']".to_owned(),
        (_, toml::Value::String(_)) => "'other'".to_owned(),
        (_, toml::Value::Integer(number)) => (number + 1).to_string(),
        (_, toml::Value::Boolean(value)) => (!value).to_string(),
        (_, toml::Value::Array(_)) => "[]".to_owned(),
        (path, other) => panic!("{path} = {other}: give another value"),
    }
}

#[test]
fn what_is_read_again_while_running_is_what_the_documentation_says() {
    let (reference, default) = (reference(), default_toml());
    for [path, variable, ..] in rows() {
        let row = reference.lines().find(|line| line.starts_with(&format!("| `{path}`"))).unwrap();
        assert_eq!(row.contains("*Read again while running.*"), is_reloaded(&path), "{path}");
        let marked = format!("# Read again while running.\n# {variable}\n");
        assert_eq!(default.contains(&marked), is_reloaded(&path), "{path}");
    }
    for path in ["log.level", "admins", "c2s.limits.depth", "c2s.proxy_protocol.trusted", "registration.enabled"] {
        assert!(is_reloaded(path), "{path}");
    }
    for path in
        ["data", "log.format", "c2s.starttls.listen", "archive.enabled", "database.url", "c2s.limits", "nothing"]
    {
        assert!(!is_reloaded(path), "{path}");
    }
    assert_eq!(reloaded().collect::<HashSet<_>>().len(), reloaded().count());
}

#[test]
fn a_running_server_takes_up_what_is_reloaded_and_nothing_else() {
    let running = Settings::default();
    let mut taken = 0;
    for [path, _, _, default] in rows() {
        if path == "link.routers" {
            // It needs others, in other tables.
            continue;
        }
        let written: toml::Table = format!("value = {default}").parse().unwrap();
        let other = other(&path, &written["value"]);
        let file = match path.rsplit_once('.') {
            Some((section, name)) => format!("[{section}]\n{name} = {other}\n"),
            None => format!("{path} = {other}\n"),
        };
        let newer = load(&file, &[]).unwrap();
        assert_eq!(running.differs_from(&newer).unwrap(), [path.as_str()]);
        let merged = running.taking_up(&newer).unwrap();
        let (expected, left) = if is_reloaded(&path) { (&newer, vec![]) } else { (&running, vec![path.as_str()]) };
        assert_eq!(&merged, expected, "{path}");
        assert_eq!(merged.differs_from(&newer).unwrap(), left);
        taken += usize::from(is_reloaded(&path));
    }
    assert_eq!(taken, reloaded().count());
}

#[test]
fn processes_of_a_cluster_share_redis_and_database_and_believe_only_each_other() {
    let linked = "[link]\nrouters = ['router.example:5270']\n";
    let error = load(linked, &[]).unwrap_err().to_string();
    for key in ["link.tls.certificate", "link.tls.key", "link.tls.ca", "redis.servers", "database.url"] {
        assert!(error.contains(key), "{key}: {error}");
    }
    let tls = "[link.tls]\ncertificate = 'a'\nkey = 'b'\nca = 'c'\n";
    let rest = "[redis]\nservers = ['redis:6379', '[fd00::1]:6379']\n[database]\nurl = 'postgres://db/starling'\n";
    assert_eq!(load(&[linked, tls, rest].concat(), &[]).unwrap().link.routers, ["router.example:5270"]);
    let router = ["roles = ['router']\n", tls].concat();
    load(&router, &[]).unwrap();
    let error = load("roles = ['router']", &[]).unwrap_err().to_string();
    assert!(error.contains("link.tls.key") && !error.contains("redis.servers"), "{error}");
    for wrong in ["redis", "redis:0", "redis:x", ":6379", "redis://redis:6379", "::1:6379", "a@b:1"] {
        let error = load(&format!("[redis]\nservers = ['{wrong}']"), &[]).unwrap_err().to_string();
        assert!(error.contains("redis.servers"), "{wrong}: {error}");
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
        ("[c2s.limits]\ndepth = 1", None, "c2s.limits.depth: not from 8 to 500"),
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
fn values_that_cannot_be_are_told_all_at_once() {
    let file = "data = ''\ndomains = []\n\
        [http]\nlisten = 'everywhere'\n\
        [auth]\nmechanisms = []\nmechanisms_without_tls = ['SCRAM-SHA-1-PLUS', 'PLAIN']\niterations = 1\nmax_attempts = 0\n\
        [c2s.starttls]\nlisten = ['127.0.0.1:5222', 'localhost:5222']\n\
        [c2s.direct_tls]\nlisten = ['127.0.0.1']\n\
        [c2s.proxy_protocol]\ntrusted = ['10.0.0.0/33', '10.0.0.0/8', 'fd00::/129', '::1', '/8', '1.2.3.4/']\n\
        [c2s.limits]\nstanza_bytes = 10000\nstanza_bytes_before_login = 10001\ndepth = 501\nattributes = 1\n\
        authentication_time = 0\naccept_burst = 0\nbytes_burst = 0\nqueue_stanzas = 0\nqueue_bytes = 0\n\
        write_timeout = 0\n[session]\nresources_per_account = 0\n";
    let Err(Error::Values(problems)) = load(file, &[]) else { panic!("{file} is good") };
    let keys: Vec<_> = problems.iter().map(|problem| problem.key).collect();
    let mut expected = vec!["data", "domains", "auth.mechanisms", "auth.mechanisms_without_tls", "http.listen"];
    expected.extend(["c2s.starttls.listen", "c2s.direct_tls.listen"]);
    expected.extend(["c2s.proxy_protocol.trusted"; 4]);
    expected.push("auth.iterations");
    let limits = ["stanza_bytes_before_login", "depth", "attributes"].map(|name| format!("c2s.limits.{name}"));
    expected.extend(limits.iter().map(String::as_str));
    expected.push("auth.max_attempts");
    let zero = ["authentication_time", "accept_burst", "bytes_burst", "queue_stanzas", "queue_bytes", "write_timeout"];
    let zero = zero.map(|name| format!("c2s.limits.{name}"));
    expected.extend(zero.iter().map(String::as_str));
    expected.push("session.resources_per_account");
    assert_eq!(keys, expected);
    assert!(Settings::default().check().is_empty());
}

#[test]
fn a_variable_holds_one_value_and_is_not_told_when_it_does_not() {
    for value in ["9\nattributes = 17", "9\n[c2s.limits]", "9 10", "", "hidden"] {
        let error = load("", &[("STARLING_C2S_LIMITS_DEPTH", value)]).unwrap_err().to_string();
        assert!(error.starts_with("STARLING_C2S_LIMITS_DEPTH: ") && !error.contains("hidden"), "{value:?}: {error}");
    }
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
    assert_eq!(
        settings.auth.mechanisms_without_tls,
        ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"],
        "all that can do without TLS"
    );
    assert_eq!(settings.auth.iterations, 4096);
    assert_eq!(settings.admins, ["admin@localhost"]);
    assert_eq!(settings.data, Path::new("/some/folder"));
    let limits = &settings.c2s.limits;
    for off in [
        limits.connections,
        limits.connections_per_address,
        limits.accept_per_second,
        limits.failed_logins_per_address,
        limits.failed_logins_per_account,
        limits.bytes_per_second,
    ] {
        assert_eq!(off, Limit(None));
    }
}
