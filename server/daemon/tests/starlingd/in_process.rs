//! The server as a part of another program.

use std::path::Path;

use starling_daemon::Server;
use starling_settings::Settings;

fn settings(data: &Path) -> Settings {
    let variables = [
        ("STARLING_DATA", data.to_str().unwrap()),
        ("STARLING_HTTP_LISTEN", "127.0.0.1:0"),
        ("STARLING_C2S_STARTTLS_LISTEN", r#"["127.0.0.1:0"]"#),
        ("STARLING_C2S_DIRECT_TLS_LISTEN", r#"["127.0.0.1:0"]"#),
    ];
    Settings::load(None, variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap()
}

#[tokio::test]
async fn a_server_can_be_started_and_stopped_again_in_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    for _ in 0..2 {
        let server = Server::start(&settings).await.unwrap();
        let address = |role| server.addresses().iter().find(|(name, _)| *name == role).unwrap().1.clone();
        let (clients, http) = (address("c2s-starttls"), address("http"));
        tokio::net::TcpStream::connect(&clients).await.unwrap();
        assert!(Server::start(&settings).await.is_err(), "the data are in use");
        assert!(server.stop().await);
        for address in [clients, http] {
            assert!(tokio::net::TcpStream::connect(&address).await.is_err(), "{address} is still listened on");
        }
    }
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = settings(folder.path());
    let mut bad = good.clone();
    bad.http.listen = taken.local_addr().unwrap().to_string();
    assert!(Server::start(&bad).await.is_err());
    assert!(Server::start(&good).await.unwrap().stop().await, "the lock was let go");
}
