use std::fs;
use std::time::{Duration, SystemTime};

use rcgen::date_time_ymd;

use super::support::{Client, Made, connect, made, made_with};
use crate::tls::{CertificateFiles, Certificates};
use crate::{Blame, Error};

fn expired(names: &[&str]) -> Made {
    made_with(names, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    })
}

/// Which of `all` a client is shown that asks for `name`.
async fn shown(certificates: &Certificates, all: &[&Made], name: &str) -> usize {
    // The handshake may fail for the name; what was shown is known all the same to one that trusts all of them.
    let (server, client) = connect(&certificates.acceptor(), &Client::new(all).trusting_any_name(), name).await;
    drop(server);
    let client = client.unwrap();
    let certificate = client.get_ref().1.peer_certificates().unwrap()[0].clone();
    all.iter().position(|made| made.der == certificate).unwrap()
}

#[tokio::test]
async fn the_certificate_is_that_of_the_name_asked_for_exact_before_wildcard_before_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let default = made(&["localhost"]);
    let wild = made(&["*.wild.example"]);
    let exact = made(&["a.example", "exact.wild.example", "b.example"]);
    let late = made(&["b.example"]);
    let all = [&default, &wild, &exact, &late];
    let files = all.iter().enumerate().map(|(index, made)| made.write(&folder.path().join(index.to_string())));
    let certificates = Certificates::open(files.collect()).unwrap();
    let table = [
        ("localhost", 0),
        ("A.EXAMPLE", 2),
        ("x.wild.example", 1),
        ("exact.wild.example", 2),
        ("x.y.wild.example", 0),
        ("wild.example", 0),
        ("unknown.example", 0),
        ("b.example", 2),
        // An address is not sent as SNI.
        ("127.0.0.1", 0),
    ];
    for (name, expected) in table {
        assert_eq!(shown(&certificates, &all, name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn among_certificates_of_one_name_the_first_that_the_client_can_check_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let ecdsa = made(&["localhost"]);
    let ed25519 = {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        Made { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
    };
    let files = vec![ed25519.write(&folder.path().join("0")), ecdsa.write(&folder.path().join("1"))];
    let certificates = Certificates::open(files).unwrap();
    let all = [&ed25519, &ecdsa];
    assert_eq!(shown(&certificates, &all, "localhost").await, 0);
    let only_ecdsa = Client::new(&all).trusting_any_name().without_ed25519();
    let (_, client) = connect(&certificates.acceptor(), &only_ecdsa, "localhost").await;
    assert_eq!(client.unwrap().get_ref().1.peer_certificates().unwrap()[0], ecdsa.der);
}

#[tokio::test]
async fn a_bad_pair_is_reported_and_the_old_one_kept_until_a_good_one_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (old, other) = (made(&["localhost"]), made(&["other.example"]));
    let files = old.write(&folder.path().join("0"));
    let certificates = Certificates::open(vec![files.clone(), other.write(&folder.path().join("1"))]).unwrap();
    let write = |certificate: &str, key: &str| {
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
    };
    let (foreign, expired) = (made(&["localhost"]), expired(&["localhost"]));
    let table: [(&str, &dyn Fn(), &str); 8] = [
        ("mismatch", &|| write(&foreign.certificate, &old.key), "the key is not that of"),
        ("certificate is garbage", &|| write("garbage", &old.key), "no certificate in it"),
        (
            "certificate is no DER",
            &|| write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &old.key),
            "not an X.509 certificate",
        ),
        (
            "certificate is cut",
            &|| write(foreign.certificate.split_at(foreign.certificate.len() / 2).0, &foreign.key),
            "not a PEM certificate chain",
        ),
        ("key is garbage", &|| write(&foreign.certificate, "garbage"), "not a private key in PEM"),
        ("key is empty", &|| write(&foreign.certificate, ""), "not a private key in PEM"),
        ("expired", &|| write(&expired.certificate, &expired.key), "has expired"),
        ("missing", &|| fs::remove_file(&files.key).unwrap(), "No such file"),
    ];
    let all = [&old, &other, &foreign];
    for (index, (what, change, reason)) in table.iter().enumerate() {
        change();
        let status = certificates.reload().unwrap();
        assert_eq!(status.readings, 2 + index as u64, "{what}");
        let failure = status.certificates[0].failure.as_deref().unwrap_or_default();
        assert!(failure.contains(reason), "{what}: {failure}");
        assert_eq!(status.certificates[1].failure, None, "{what}");
        assert!(!status.is_good());
        assert_eq!(shown(&certificates, &all, "localhost").await, 0, "{what}");
        assert_eq!(shown(&certificates, &all, "other.example").await, 1, "{what}");
    }
    write(&foreign.certificate, &foreign.key);
    assert!(certificates.reload().unwrap().is_good());
    assert_eq!(shown(&certificates, &all, "localhost").await, 2);
}

#[tokio::test]
async fn a_good_pair_beside_a_bad_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, newer) = (made(&["a.example"]), made(&["b.example"]), made(&["c.example"]));
    let files = [first.write(&folder.path().join("0")), second.write(&folder.path().join("1"))];
    let certificates = Certificates::open(files.to_vec()).unwrap();
    fs::write(&files[0].key, &second.key).unwrap();
    newer.write(&folder.path().join("1"));
    let status = certificates.reload().unwrap();
    assert!(status.certificates[0].failure.is_some());
    assert_eq!(status.certificates[1].names, ["c.example"]);
    let all = [&first, &second, &newer];
    assert_eq!(shown(&certificates, &all, "c.example").await, 2);
    assert_eq!(shown(&certificates, &all, "b.example").await, 0);
}

#[test]
fn what_reads_the_same_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let pair = made(&["localhost"]);
    let certificates = Certificates::open(vec![pair.write(folder.path())]).unwrap();
    let mut status = certificates.status();
    status.mark_unchanged();
    pair.write(folder.path());
    assert_eq!(certificates.reload().unwrap().readings, 1);
    assert!(!status.has_changed().unwrap());
}

#[test]
fn an_expired_certificate_is_better_than_none_at_the_start_and_is_replaced_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::open(vec![expired(&["localhost"]).write(folder.path())]).unwrap();
    assert!(certificates.status().borrow().certificates[0].failure.as_deref().unwrap().contains("has expired"));
    let newer = expired(&["newer.example"]);
    newer.write(folder.path());
    let status = certificates.reload().unwrap();
    assert_eq!(status.certificates[0].names, ["newer.example"]);
    assert!(!status.is_good());
}

#[test]
fn the_next_expiry_is_that_of_the_certificate_shown_which_ends_first() {
    let folder = tempfile::tempdir().unwrap();
    let soon = made_with(&["a.example"], |params| params.not_after = date_time_ymd(2100, 1, 1));
    let later = made_with(&["b.example"], |params| params.not_after = date_time_ymd(2200, 1, 1));
    let files = vec![later.write(&folder.path().join("0")), soon.write(&folder.path().join("1"))];
    let status = Certificates::open(files).unwrap().status().borrow().clone();
    let seconds_to_2100 = 4_102_444_800;
    assert_eq!(status.next_expiry(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds_to_2100)));
}

#[test]
fn nothing_is_opened_with_a_bad_pair_or_with_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Certificates::open(Vec::new()), Err(Error::NoCertificate)));
    let (one, other) = (made(&["localhost"]), made(&["localhost"]));
    let files = one.write(folder.path());
    fs::write(&files.key, &other.key).unwrap();
    let error = Certificates::open(vec![files.clone()]).unwrap_err();
    assert_eq!(error.blame(), Blame::Us);
    assert!(matches!(error, Error::Certificate { path, .. } if path == files.key));
    let nowhere = CertificateFiles { certificate: folder.path().join("nowhere"), key: files.key.clone() };
    let error = Certificates::open(vec![nowhere.clone()]).unwrap_err();
    assert!(matches!(error, Error::Certificate { path, .. } if path == nowhere.certificate));
}
