use std::sync::Arc;

use rustls::{
    RootCertStore,
    client::danger::ServerCertVerifier as _,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use super::*;

fn at(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + DAY * u32::try_from(days).unwrap()
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

/// Whether whoever believes `authorities` takes `pair` for a router, or for one of ours that connects.
fn believes(authorities: &str, pair: &KeyPair, as_router: bool, now: SystemTime) -> bool {
    let mut roots = RootCertStore::empty();
    chain(authorities).into_iter().for_each(|authority| roots.add(authority).unwrap());
    let (roots, provider) = (Arc::new(roots), Arc::new(default_provider()));
    let chain = chain(&pair.certificate);
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    if as_router {
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
        let name = ServerName::try_from(LinkTls::default().router_name).unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).is_ok()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
        verifier.verify_client_cert(&chain[0], &chain[1..], now).is_ok()
    }
}

#[test]
fn routers_are_taken_for_routers_and_instances_are_not() {
    let kept = Kept::first(at(0), None).unwrap().certificates();
    assert!(believes(&kept.authorities, &kept.router, true, at(1)));
    assert!(believes(&kept.authorities, &kept.router, false, at(1)));
    assert!(believes(&kept.authorities, &kept.instance, false, at(1)));
    assert!(!believes(&kept.authorities, &kept.instance, true, at(1)));
    let other = Kept::first(at(0), None).unwrap().certificates();
    assert!(!believes(&other.authorities, &kept.router, true, at(1)));
}

#[test]
fn for_ten_years_pods_that_are_one_step_behind_believe_each_other() {
    let mut kept = Kept::first(at(0), None).unwrap();
    let mut now = at(0);
    let (mut steps, mut authorities) = (0, std::collections::BTreeSet::new());
    while now < at(3650) {
        let due = kept.due();
        assert!(due > now, "a step that is due at once would be taken again and again");
        assert!(kept.step(due - Duration::from_secs(1)).unwrap().is_none());
        now = due;
        let next = kept.step(now).unwrap().expect("it is due");
        let (old, new) = (kept.certificates(), next.certificates());
        for (ours, theirs) in [(&old, &old), (&old, &new), (&new, &old), (&new, &new)] {
            // Also when the operator is away for a week.
            for now in [now, now + 7 * DAY] {
                assert!(believes(&ours.authorities, &theirs.router, true, now));
                assert!(believes(&ours.authorities, &theirs.instance, false, now));
            }
        }
        authorities.insert(next.signing.certificate.clone());
        kept = next;
        steps += 1;
    }
    assert!(authorities.len() >= 9, "{} authorities", authorities.len());
    assert!(steps < 200, "{steps} steps");
    assert!(kept.other.is_none() || chain(&kept.certificates().authorities).len() == 2);
}

#[test]
fn what_is_kept_is_read_again_at_each_step() {
    let mut kept = Kept::first(at(0), None).unwrap();
    for _ in 0..20 {
        assert_eq!(Kept::from_data(&kept.to_data()).unwrap(), kept);
        kept = kept.step(kept.due()).unwrap().unwrap();
    }
}

#[test]
fn after_a_loss_the_old_authorities_are_believed_for_an_overlap() {
    let old = Kept::first(at(0), None).unwrap().certificates();
    let new = Kept::first(at(1), Some(&old.authorities)).unwrap();
    assert!(believes(&new.certificates().authorities, &old.router, true, at(1)));
    let later = new.step(at(1) + OVERLAP).unwrap().unwrap();
    assert!(!believes(&later.certificates().authorities, &old.router, true, at(2)));
}

#[test]
fn what_was_changed_is_not_taken_for_what_was_kept() {
    let good = Kept::first(at(0), None).unwrap().to_data();
    for name in good.keys() {
        let mut lacking = good.clone();
        lacking.remove(name);
        assert!(Kept::from_data(&lacking).is_err(), "{name}");
        let mut broken = good.clone();
        broken.insert(name.clone(), Hidden::new("nonsense"));
        let error = Kept::from_data(&broken).unwrap_err().to_string();
        assert!(!error.contains("PRIVATE"), "{error}");
    }
    let other = Kept::first(at(0), None).unwrap().to_data();
    let mut mixed = good;
    mixed.insert("router.key".to_owned(), other["router.key"].clone());
    assert!(Kept::from_data(&mixed).is_err(), "a key of another certificate");
}

#[test]
fn keys_are_not_shown() {
    let kept = Kept::first(at(0), None).unwrap();
    assert!(!format!("{kept:?} {:?}", kept.to_data()).contains("PRIVATE"));
}
