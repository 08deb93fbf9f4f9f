//! What others could read.

use std::os::unix::fs::PermissionsExt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    client::{Client, may_log_in},
    program::{Place, files},
};

#[test]
fn only_the_servers_user_can_read_the_data() {
    let place = Place::new();
    // A folder that is there already and open to all: what is in it must be closed by itself.
    std::fs::create_dir(place.data()).unwrap();
    std::fs::set_permissions(place.data(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = place.start();
    place.succeed(&["user", "add", "alice@localhost"], "first\n");
    let found = files(&place.data());
    for name in ["admin.sock", "lock", "starling.db", "tls", "self-signed.key"] {
        assert!(found.iter().any(|path| path.ends_with(name)), "{name}: {found:?}");
    }
    for path in found {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let public = path.extension().is_some_and(|extension| extension == "crt");
        assert!(public || mode & 0o077 == 0, "{}: {mode:o}", path.display());
    }
    server.stop();
}

#[test]
fn passwords_stand_neither_in_logs_nor_in_the_data() {
    let place = Place::new().with("STARLING_LOG_LEVEL", "trace");
    let server = place.start();
    let (first, second, wrong) = ("Xoo8aiphe", "uPh4chooz", "ohV5aiquu");
    place.succeed(&["user", "add", "alice@localhost"], &format!("{first}\n"));
    drop(Client::log_in(&server, "alice", first));
    place.succeed(&["user", "passwd", "alice@localhost"], &format!("{second}\n"));
    assert!(may_log_in(&server, "alice", second));
    assert!(!may_log_in(&server, "alice", wrong));
    place.succeed(&["user", "import", "-"], &format!("bob@localhost {first}\n"));
    let found = files(&place.data());
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for path in found.iter().filter(|path| path.is_file()) {
        texts.push((path.display().to_string(), std::fs::read(path).unwrap()));
    }
    assert!(texts.iter().any(|(_, bytes)| contains(bytes, b"alice@localhost")), "otherwise this shows nothing");
    let log = server.stop();
    assert!(log.len() > 10, "otherwise this shows nothing");
    texts.push(("log".to_owned(), log.join("\n").into_bytes()));
    for password in [first, second, wrong] {
        let encoded = STANDARD.encode(format!("\0alice\0{password}"));
        for (name, bytes) in &texts {
            for secret in [password, &encoded] {
                assert!(!contains(bytes, secret.as_bytes()), "{secret} in {name}");
            }
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
