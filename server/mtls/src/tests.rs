use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const NAME: &str = "router.starling.internal";

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Files of a process whose certificate `issuer` signs, and which believes `believed`.
fn write(
    folder: &Path,
    name: &str,
    issuer: &CertifiedIssuer<'_, KeyPair>,
    believed: &[&CertifiedIssuer<'_, KeyPair>],
) -> Files {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
    let files =
        Files { certificate: folder.join("tls.crt"), key: folder.join("tls.key"), authorities: folder.join("ca.crt") };
    fs::write(&files.certificate, certificate.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    let authorities: String = believed.iter().map(|authority| authority.pem()).collect();
    fs::write(&files.authorities, authorities).unwrap();
    files
}

/// Whether the two talk, by the name that the client wants.
async fn talk(server: &MutualTls, client: &MutualTls, name: &'static str) -> bool {
    let (one, two) = duplex(1 << 16);
    let name = ServerName::try_from(name).unwrap();
    let accept = async {
        let mut stream = server.acceptor().accept(one).await.ok()?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN));
        // In TLS 1.3 the client learns by the first bytes whether it was let in.
        stream.write_all(b"hello").await.ok()?;
        stream.flush().await.ok()
    };
    let connect = async {
        let mut stream = client.connector().connect(name, two).await.ok()?;
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.ok()?;
        (hello == *b"hello").then_some(())
    };
    let (accepted, connected) = tokio::join!(accept, connect);
    accepted.is_some() && connected.is_some()
}

struct World {
    ours: CertifiedIssuer<'static, KeyPair>,
    theirs: CertifiedIssuer<'static, KeyPair>,
    folders: [tempfile::TempDir; 2],
}

impl World {
    fn new() -> Self {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        Self { ours: authority(), theirs: authority(), folders }
    }

    fn files(&self, at: usize, signed_by_us: bool, believes_us: bool) -> Files {
        let issuer = |ours| if ours { &self.ours } else { &self.theirs };
        write(self.folders[at].path(), NAME, issuer(signed_by_us), &[issuer(believes_us)])
    }
}

#[tokio::test]
async fn both_ends_must_show_a_certificate_of_an_authority_that_the_other_believes() {
    for (router_ours, client_ours) in [(true, true), (true, false), (false, true)] {
        let world = World::new();
        let router = MutualTls::open(world.files(0, router_ours, true)).unwrap();
        let client = MutualTls::open(world.files(1, client_ours, true)).unwrap();
        assert_eq!(talk(&router, &client, NAME).await, router_ours && client_ours);
    }
}

#[tokio::test]
async fn who_connects_wants_the_routers_name() {
    let world = World::new();
    let router = MutualTls::open(world.files(0, true, true)).unwrap();
    let client = MutualTls::open(world.files(1, true, true)).unwrap();
    assert!(talk(&router, &client, NAME).await);
    assert!(!talk(&router, &client, "other.starling.internal").await);
}

#[tokio::test]
async fn authorities_are_replaced_one_after_the_other_without_a_restart() {
    let world = World::new();
    let router = MutualTls::open(world.files(0, true, true)).unwrap();
    let client = MutualTls::open(world.files(1, true, true)).unwrap();
    assert!(talk(&router, &client, NAME).await);
    // First all believe both, then certificates change one by one, then the old authority goes.
    for at in 0..2 {
        write(world.folders[at].path(), NAME, &world.ours, &[&world.ours, &world.theirs]);
        assert!(talk(&router, &client, NAME).await);
    }
    for at in 0..2 {
        write(world.folders[at].path(), NAME, &world.theirs, &[&world.ours, &world.theirs]);
        assert!(talk(&router, &client, NAME).await);
    }
    for at in 0..2 {
        write(world.folders[at].path(), NAME, &world.theirs, &[&world.theirs]);
        assert!(talk(&router, &client, NAME).await);
    }
    write(world.folders[1].path(), NAME, &world.ours, &[&world.theirs]);
    assert!(!talk(&router, &client, NAME).await, "the old authority is not believed any more");
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_what_was_there() {
    let world = World::new();
    let files = world.files(0, true, true);
    let router = MutualTls::open(files.clone()).unwrap();
    let client = MutualTls::open(world.files(1, true, true)).unwrap();
    for broken in [&files.certificate, &files.key, &files.authorities] {
        let good = fs::read(broken).unwrap();
        fs::write(broken, "nonsense").unwrap();
        assert!(MutualTls::open(files.clone()).is_err());
        assert!(talk(&router, &client, NAME).await);
        fs::remove_file(broken).unwrap();
        let error = MutualTls::open(files.clone()).unwrap_err().to_string();
        assert!(error.contains(broken.to_str().unwrap()), "{error}");
        assert!(talk(&router, &client, NAME).await);
        fs::write(broken, good).unwrap();
    }
    assert!(talk(&router, &client, NAME).await);
}

#[test]
fn a_key_of_another_certificate_is_an_error() {
    let world = World::new();
    let files = world.files(0, true, true);
    fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(MutualTls::open(files), Err(Error::Content { .. })));
}
