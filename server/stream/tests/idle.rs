//! What an idle connection costs the server: 1000 of each kind, the server in a process of its own, memory as PSS.
//! Run it with `--nocapture` for the figures; the bounds that fail it have some room above what was measured.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "what fails here fails the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use starling_stream::{CertificateFiles, Certificates, READ_BYTES, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const CONNECTIONS: usize = 1000;
const FOLDER: &str = "STREAM_IDLE_SERVER";

/// The server, when this program is started as one: accepts as many connections as it is told, echoes once on each, keeps
/// them, and says its memory.
#[tokio::test(flavor = "current_thread")]
async fn server() {
    let Some(folder) = std::env::var_os(FOLDER).map(std::path::PathBuf::from) else { return };
    let files = CertificateFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
    let certificates = Certificates::open(vec![files]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let mut held = Vec::new();
    let mut buf = vec![0; READ_BYTES];
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (count, tls) = line.split_once(' ').unwrap();
        for _ in 0..count.parse::<usize>().unwrap() {
            let mut transport = Transport::plain(listener.accept().await.unwrap().0);
            if tls == "tls" {
                transport = transport.accept_tls(&certificates.acceptor()).await.unwrap();
            }
            let length = transport.read(&mut buf).await.unwrap();
            transport.write_all(&buf[..length]).await.unwrap();
            // As it would be in a session: waiting.
            held.push(Box::pin(tokio::spawn(async move { transport.read(&mut [0; 1]).await })));
            tokio::task::yield_now().await;
        }
        println!("{}", pss_kib());
    }
}

fn pss_kib() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

struct Server {
    child: Child,
    input: ChildStdin,
    output: std::io::Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(folder: &std::path::Path) -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut server = Self { child, input, output };
        let address = server.line(|line| line.starts_with("127.0.0.1:"));
        (server, address)
    }

    /// The next line that is ours: the test harness prints too.
    fn line(&mut self, ours: impl Fn(&str) -> bool) -> String {
        self.output.by_ref().map(Result::unwrap).find(|line| ours(line)).unwrap()
    }

    fn memory(&mut self) -> u64 {
        self.line(|line| line.parse::<u64>().is_ok()).parse().unwrap()
    }
}

async fn client(address: &str, tls: Option<&Arc<ClientConfig>>) -> Box<dyn std::any::Any> {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut buf = [0; 300];
    match tls {
        None => {
            tcp.write_all(&[1; 300]).await.unwrap();
            tcp.read_exact(&mut buf).await.unwrap();
            Box::new(tcp)
        }
        Some(config) => {
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
            let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
            stream.write_all(&[1; 300]).await.unwrap();
            stream.read_exact(&mut buf).await.unwrap();
            Box::new(stream)
        }
    }
}

#[tokio::test]
async fn an_idle_connection_costs_little() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    for (kind, bound) in [("plain", 1.5), ("TLSv1.3", 6.0), ("TLSv1.2", 6.0)] {
        let version = if kind == "TLSv1.2" { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let config = (kind != "plain").then(|| Arc::new(config));
        let (mut server, address) = Server::start(folder.path());
        let mut held = Vec::new();
        let mut memory = [0, 0];
        // The first hundred pay for what is there once.
        for (round, count) in [100, CONNECTIONS].into_iter().enumerate() {
            let word = if config.is_some() { "tls" } else { "plain" };
            writeln!(server.input, "{count} {word}").unwrap();
            for _ in 0..count {
                held.push(client(&address, config.as_ref()).await);
            }
            memory[round] = server.memory();
        }
        let each = memory[1].saturating_sub(memory[0]) as f64 / CONNECTIONS as f64;
        println!("{kind}: {each:.2} KiB PSS for each idle connection");
        assert!(each > 0.1 && each <= bound, "{kind}: {each:.2} KiB for each idle connection, more than {bound}");
        drop((held, server.input));
        server.child.wait().unwrap();
    }
}
