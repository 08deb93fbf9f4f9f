//! Servers that stop, are killed, change their passwords, take no writes or do not answer; and TLS.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use starling_backends::postgres::{Options, Tls};
use starling_store::{Accounts, Change, Error, MessageId, Messages, PgConfig, PgStore, PutMode, RowState, Store};
use tokio::time::timeout;

use super::{
    proxy::{Proxy, Way},
    setting::{JULIET, PASSWORD, ROLE, Setting, juliet, row, start, states},
};

const LONG: Duration = Duration::from_secs(30);

/// Tries until it is done; whatever fails meanwhile is worth a retry.
macro_rules! insist {
    ($attempt:expr) => {{
        let began = Instant::now();
        loop {
            match $attempt.await {
                Ok(done) => break done,
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
            assert!(began.elapsed() < LONG, "it never heals");
            // A server that is away is asked again after a moment, as the journal does.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_the_kill_of_the_server_and_the_store_goes_on_by_itself() {
    let setting = Setting::on(start(Options { fsync: true, ..Options::default() }).await).await;
    let store = setting.open_with_juliet(1).await;
    let (answered, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn({
        let (store, answered, over) = (store.clone(), Arc::clone(&answered), Arc::clone(&over));
        async move {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let rows: Vec<_> = (number..number + 20).map(|n| row(n, RowState::InFlight, &[1])).collect();
                insist!(store.commit(&rows));
                number += 20;
                answered.store(number, Ordering::Relaxed);
            }
            number
        }
    });
    for round in 0..3 {
        let before = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < before + 500 {
            tokio::task::yield_now().await;
        }
        if round < 2 {
            setting.server.kill9().await;
        } else {
            setting.server.stop().await;
        }
        let answered = answered.load(Ordering::Relaxed);
        setting.server.start_again().await;
        let there = insist!(store.rows(JULIET, None, 1_000_000));
        let there: Vec<_> = there.iter().map(|row| row.id.millis()).collect();
        assert!(there.len() as u64 >= answered && there.is_sorted(), "{} of {answered}", there.len());
    }
    over.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    // Those that were tried again are there once.
    let numbers: Vec<_> = states(&store).await.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (0..written).collect::<Vec<_>>());
    setting.assert_whole().await;
    // Everything else as well.
    assert_eq!(insist!(store.credentials(&juliet().jid)), Some(juliet().credentials));
    insist!(store.put(&[juliet()], PutMode::Upsert));
    insist!(store.secret("salt", 32));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_everything_fails_at_once_and_says_that_it_may_be_tried_again() {
    let setting = Setting::on(start(Options::default()).await).await;
    let store = setting.open_with_juliet(1).await;
    setting.server.stop().await;
    for _ in 0..2 {
        let began = Instant::now();
        let results = [
            store.commit(&[row(1, RowState::Pending, &[])]).await.map(drop),
            store.credentials(&juliet().jid).await.map(drop),
            store.claim(JULIET, 10, 1000).await.map(drop),
            store.put(&[juliet()], PutMode::Upsert).await.map(drop),
            PgStore::open(&setting.config(2)).await.map(drop),
        ];
        assert!(began.elapsed() < Duration::from_secs(3));
        for result in results {
            assert!(result.as_ref().is_err_and(Error::is_transient), "{result:?}");
        }
    }
    setting.server.start_again().await;
    store.commit(&[row(1, RowState::Pending, &[])]).await.unwrap();
    assert_eq!(store.claim(JULIET, 10, 1000).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_answer_was_lost_brings_nothing_back_when_it_is_tried_again() {
    let setting = Setting::new().await;
    let other = setting.open_with_juliet(2).await;
    let proxy = Proxy::start(setting.server.port()).await;
    let url = setting.config(1).url.replace(&setting.server.port().to_string(), &proxy.port.to_string());
    let store = PgStore::open(&PgConfig { url, ..setting.config(1) }).await.unwrap();
    store.commit(&[row(1, RowState::Delivered, &[])]).await.unwrap();
    let group: Vec<_> = (2..30).map(|number| row(number, RowState::InFlight, &[1, 2])).collect();
    proxy.set(Way::AnswersAreLost);
    let lost = store.commit(&group).await.unwrap_err();
    assert!(lost.is_transient(), "{lost:?}");
    assert_eq!(states(&other).await.len(), 29, "it was committed");
    let settled: Vec<_> =
        (2..20).map(|number| Change::Delivered { account: JULIET, id: MessageId::new(number, 0, 0) }).collect();
    other.commit(&settled).await.unwrap();
    proxy.set(Way::Open);
    store.commit(&group).await.unwrap();
    let expected = (1..30).map(|n| (n, if n < 20 { RowState::Delivered } else { RowState::InFlight }));
    assert_eq!(states(&other).await, expected.collect::<Vec<_>>());
    setting.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_claimed_is_handed_out_and_not_in_flight_at_nobody() {
    let setting = Setting::new().await;
    let other = setting.open_with_juliet(2).await;
    let proxy = Proxy::start(setting.server.port()).await;
    let url = setting.config(1).url.replace(&setting.server.port().to_string(), &proxy.port.to_string());
    let store = PgStore::open(&PgConfig { url, ..setting.config(1) }).await.unwrap();
    let rows: Vec<_> = (0..10).map(|number| row(number, RowState::Pending, &[])).collect();
    other.commit(&rows).await.unwrap();
    proxy.set(Way::AnswersToCommitAreLost);
    assert_eq!(store.claim(JULIET, 4, 1_000_000).await.unwrap().len(), 4);
    assert_eq!(other.pending(JULIET, 100).await.unwrap(), 6, "the server has made the commit");
    // Lost before that, it is undone.
    proxy.set(Way::AnswersAreLost);
    let lost = store.claim(JULIET, 4, 1_000_000).await.unwrap_err();
    assert!(lost.is_transient(), "{lost:?}");
    assert_eq!(other.pending(JULIET, 100).await.unwrap(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let setting = Setting::new().await;
    let proxy = Proxy::start(setting.server.port()).await;
    let url = setting.config(1).url.replace(&setting.server.port().to_string(), &proxy.port.to_string());
    let store = PgStore::open(&PgConfig { url, ..setting.config(1) }).await.unwrap();
    store.put(&[juliet()], PutMode::Create).await.unwrap();
    store.commit(&[row(1, RowState::Pending, &[])]).await.unwrap();
    proxy.set(Way::Nowhere);
    let (group, count) = ([row(2, RowState::Pending, &[])], async { timeout(LONG, store.count()).await });
    let (commit, count) = tokio::join!(async { timeout(LONG, store.commit(&group)).await }, count);
    let (commit, count) = (commit.expect("it ends"), count.expect("it ends"));
    assert!(matches!(commit, Err(Error::NoAnswer)) && matches!(count, Err(Error::NoAnswer)), "{commit:?} {count:?}");
    proxy.set(Way::Open);
    store.commit(&[row(3, RowState::Pending, &[])]).await.unwrap();
    assert_eq!(states(&store).await.len(), 2, "what never arrived is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_lets_new_connections_in_and_old_ones_live_on() {
    let setting = Setting::on(start(Options::default()).await).await;
    let store = setting.open_with_juliet(1).await;
    store.commit(&[row(1, RowState::Pending, &[])]).await.unwrap();
    setting.server.role(ROLE, "another one").await;
    store.commit(&[row(2, RowState::Pending, &[])]).await.unwrap();
    // They are lost, and the file is not changed yet.
    let kill =
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name LIKE 'starling-%'";
    setting.sql(kill).await;
    let refused = loop {
        match store.commit(&[row(3, RowState::Pending, &[])]).await.unwrap_err() {
            // Of the connections that were there.
            error if error.is_transient() => {}
            error => break error,
        }
    };
    let said = format!("{refused:?} {refused}");
    assert!(said.contains("28P01") && !said.contains(PASSWORD), "{said}");
    fs::write(&setting.password_file, "another one").unwrap();
    store.commit(&[row(3, RowState::Pending, &[])]).await.unwrap();
    assert_eq!(insist!(store.pending(JULIET, 10)), 3);
    assert_eq!(insist!(store.credentials(&juliet().jid)), Some(juliet().credentials));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_or_no_connections_is_tried_again() {
    let setting = Setting::on(start(Options::default()).await).await;
    let store = setting.open_with_juliet(1).await;
    let cut =
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name LIKE 'starling-%'";
    let database = &setting.database;
    let limits = [
        format!("ALTER DATABASE {database} SET default_transaction_read_only = on"),
        format!("ALTER ROLE {ROLE} CONNECTION LIMIT 0"),
    ];
    let lifted = [
        format!("ALTER DATABASE {database} RESET default_transaction_read_only"),
        format!("ALTER ROLE {ROLE} CONNECTION LIMIT -1"),
    ];
    for (limit, lifted) in limits.iter().zip(lifted) {
        setting.server.sql("postgres", limit).await;
        setting.sql(cut).await;
        for _ in 0..3 {
            let refused = store.commit(&[row(1, RowState::Pending, &[])]).await.unwrap_err();
            assert!(refused.is_transient(), "{limit}: {refused:?}");
        }
        setting.server.sql("postgres", &lifted).await;
        insist!(store.commit(&[row(1, RowState::Pending, &[])]));
    }
    // A standby that was the primary.
    store.close().await;
    setting.server.stop().await;
    let signal = setting.server.socket().with_file_name("data").join("standby.signal");
    fs::write(&signal, "").unwrap();
    setting.server.start_again().await;
    let refused = PgStore::open(&setting.config(2)).await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains("standby"), "{refused:?}");
    assert_eq!(setting.sql("SELECT pg_promote()").await, "t");
    let store = setting.open(2).await;
    assert_eq!(store.pending(JULIET, 10).await.unwrap(), 1);
}

/// An authority, and a server's certificate of it.
fn certificates(name: &str) -> (String, Tls) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    (issuer.pem(), Tls { certificate: certificate.pem(), key: key.serialize_pem() })
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_the_servers_certificate_and_name_are_checked() {
    let (authority, tls) = certificates("localhost");
    let setting = Setting::on(start(Options { tls: Some(tls), ..Options::default() }).await).await;
    let folder = tempfile::tempdir().unwrap();
    let (ca, other_ca) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    fs::write(&ca, authority).unwrap();
    fs::write(&other_ca, certificates("localhost").0).unwrap();
    let url = setting.config(1).url;
    let by_name = url.replace("127.0.0.1", "localhost");
    let config = |url: &str, ca| PgConfig { url: url.to_owned(), ca, ..setting.config(1) };
    // Nothing that the URL says makes less of it.
    let without = format!("{url}?sslmode=disable");
    for (refused, said) in [
        (config(&by_name, Some(other_ca)), "InvalidCertificate"),
        (config(&url, Some(ca.clone())), "NotValidForName"),
        (config(&without, Some(ca.clone())), "NotValidForName"),
        (config(&without, None), "no encryption"),
    ] {
        let error = PgStore::open(&refused).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Backend(_)) && format!("{error:?}").contains(said), "{error:?}");
    }
    let store = PgStore::open(&config(&by_name, Some(ca))).await.unwrap();
    store.put(&[juliet()], PutMode::Create).await.unwrap();
    let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name LIKE 'starling-%'";
    assert_eq!(setting.sql(encrypted).await, "t");
}
