//! The connectors against a server that we did not write: Prosody, as Debian packages it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "what fails here fails the test")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use starling_stream::connect::{ClientOptions, ClientStream, ComponentOptions, Roots, Security, client, component};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

const INSTALL: &str = "this test needs Prosody: apt-get install prosody";
const PATIENCE: Duration = Duration::from_secs(30);

/// A Prosody of its own on free ports of the loopback, with `alice` and `bob`, and the component `echo.localhost`.
struct Prosody {
    process: Child,
    folder: tempfile::TempDir,
    start_tls: u16,
    direct_tls: u16,
    component: u16,
    roots: Roots,
}

/// Below the ports that the system gives to outgoing connections: those of other tests do not take it in between.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

impl Prosody {
    async fn start(encryption: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("localhost.crt"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("localhost.key"), made.signing_key.serialize_pem()).unwrap();
        let (start_tls, direct_tls, component) = (free_port(), free_port(), free_port());
        let config = folder.path().join("prosody.cfg.lua");
        let path = folder.path().display();
        let settings = format!(
            r#"
pidfile = "{path}/prosody.pid"
data_path = "{path}"
certificates = "{path}"
run_as_root = true
interfaces = {{ "127.0.0.1" }}
component_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {start_tls} }}
c2s_direct_tls_ports = {{ {direct_tls} }}
component_ports = {{ {component} }}
s2s_ports = {{}}
http_ports = {{}}
https_ports = {{}}
modules_enabled = {{ "saslauth", "tls", "disco", "ping", "roster" }}
modules_disabled = {{ "s2s" }}
authentication = "internal_hashed"
c2s_require_encryption = {encryption}
allow_unencrypted_plain_auth = {plain}
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
VirtualHost "localhost"
    ssl = {{ certificate = "{path}/localhost.crt"; key = "{path}/localhost.key" }}
Component "echo.localhost"
    component_secret = "echosecret"
"#,
            plain = !encryption,
        );
        std::fs::write(&config, settings).unwrap();
        for user in ["alice", "bob"] {
            register(&config, user, &format!("{user}'s secret"));
        }
        let mut process = tokio::process::Command::new("prosody")
            .arg("-F")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect(INSTALL);
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = async {
            let mut open = 0;
            while open < 3 {
                let line = lines.next_line().await.unwrap().expect("Prosody has ended");
                open += u8::from(line.contains("Activated service '") && line.contains("127.0.0.1"));
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("Prosody does not start");
        // Its log must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let roots = Roots::Custom(vec![made.cert.der().clone()]);
        Self { process, folder, start_tls, direct_tls, component, roots }
    }

    fn options(&self, user: &str, security: Security) -> ClientOptions {
        let mut options =
            ClientOptions::new(format!("{user}@localhost/test").parse().unwrap(), format!("{user}'s secret"));
        options.host = Some("127.0.0.1".to_owned());
        options.port = Some(if security == Security::Direct { self.direct_tls } else { self.start_tls });
        options.security = security;
        options.roots = self.roots.clone();
        options
    }

    async fn stop(mut self) {
        self.process.kill().await.unwrap();
        drop(self.folder);
    }
}

fn register(config: &PathBuf, user: &str, password: &str) {
    let mut command = Command::new("prosodyctl");
    command.arg("--config").arg(config).args(["register", user, "localhost", password]);
    let output = command.output().expect(INSTALL);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("the other end is silent")
}

/// Sends a message from one to the other, and looks at what comes.
async fn says(from: &mut ClientStream, to: &mut ClientStream) {
    let body = "&lt;hello&gt; \u{1f426}";
    let stanza = format!("<message to='{}' type='chat' id='m1'><body>{body}</body></message>", to.jid());
    within(from.send(&stanza)).await.unwrap();
    let got = within(to.next()).await.unwrap().expect("a message");
    let got = got.as_raw();
    assert!(got.is("message", "jabber:client"));
    assert_eq!(got.attribute("from").as_deref(), Some(from.jid().to_string().as_str()));
    assert_eq!(got.child("body", "jabber:client").unwrap().text(), "<hello> \u{1f426}");
}

#[tokio::test]
async fn a_client_logs_in_over_starttls_and_direct_tls_and_chats() {
    let prosody = Prosody::start(true).await;
    let mut alice = within(client(&prosody.options("alice", Security::StartTls))).await.unwrap();
    let mut bob = within(client(&prosody.options("bob", Security::Direct))).await.unwrap();
    assert_eq!(alice.jid().to_string(), "alice@localhost/test");
    assert_eq!(alice.tls_info().unwrap().version, "TLSv1.3");
    says(&mut alice, &mut bob).await;
    says(&mut bob, &mut alice).await;
    within(alice.close()).await.unwrap();
    within(bob.close()).await.unwrap();
    prosody.stop().await;
}

#[tokio::test]
async fn a_client_logs_in_without_tls_only_when_it_is_told_to() {
    let prosody = Prosody::start(false).await;
    let alice = within(client(&prosody.options("alice", Security::None))).await.unwrap();
    assert!(alice.tls_info().is_none());
    within(alice.close()).await.unwrap();
    prosody.stop().await;
    let prosody = Prosody::start(true).await;
    assert!(within(client(&prosody.options("alice", Security::None))).await.is_err());
    prosody.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_a_foreign_certificate_are_errors() {
    let prosody = Prosody::start(true).await;
    let mut options = prosody.options("alice", Security::StartTls);
    options.password = "wrong".to_owned();
    let error = within(client(&options)).await.unwrap_err();
    assert!(error.to_string().contains("not-authorized"), "{error}");
    for security in [Security::StartTls, Security::Direct] {
        let mut options = prosody.options("alice", security);
        options.roots = Roots::Pinned([0; 32]);
        let error = within(client(&options)).await.unwrap_err();
        assert!(matches!(error, starling_stream::Error::Tls(_)), "{error}");
    }
    prosody.stop().await;
}

#[tokio::test]
async fn a_component_connects_gets_a_message_and_answers() {
    let prosody = Prosody::start(true).await;
    let options = ComponentOptions {
        domain: "echo.localhost".to_owned(),
        secret: "echosecret".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: prosody.component,
    };
    let wrong = ComponentOptions { secret: "wrong".to_owned(), ..options.clone() };
    assert!(within(component(&wrong)).await.is_err());
    let mut echo = within(component(&options)).await.unwrap();
    let mut alice = within(client(&prosody.options("alice", Security::Direct))).await.unwrap();
    within(alice.send("<message to='echo.localhost' id='1'><body>ping</body></message>")).await.unwrap();
    let got = within(echo.next()).await.unwrap().expect("a message");
    assert!(got.as_raw().is("message", "jabber:component:accept"));
    assert_eq!(got.as_raw().attribute("from").as_deref(), Some("alice@localhost/test"));
    within(echo.send("<message from='echo.localhost' to='alice@localhost/test'><body>pong</body></message>"))
        .await
        .unwrap();
    let got = within(alice.next()).await.unwrap().expect("an answer");
    assert_eq!(got.as_raw().child("body", "jabber:client").unwrap().text(), "pong");
    within(echo.close()).await.unwrap();
    within(alice.close()).await.unwrap();
    prosody.stop().await;
}
