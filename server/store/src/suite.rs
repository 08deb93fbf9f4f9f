//! The rules that every store keeps, to be run against each.

mod documents;
mod instances;
mod messages;
mod rosters;

use starling_xmpp::{
    jid::{self, BareJid},
    sasl::{Credentials, Verifier},
};

use crate::{Account, PutMode, Store};

pub use instances::{Instance, run_many};

/// The number of the instance that a store under the suite is opened as.
pub const INSTANCE: u64 = messages::INSTANCE;

/// An account whose verifiers hold `mark`, without the cost of deriving them.
#[must_use]
pub fn account(address: &str, mark: u8) -> Account {
    let verifier = |length| {
        Some(Verifier {
            salt: vec![mark; 16],
            iterations: 4096 + u32::from(mark),
            stored_key: vec![mark; length],
            server_key: vec![!mark; length],
        })
    };
    let credentials = Credentials { sha1: verifier(20), sha256: verifier(32), sha512: verifier(64) };
    Account { jid: bare(address), credentials }
}

#[allow(clippy::panic, reason = "called by tests alone")]
fn bare(address: &str) -> BareJid {
    jid::parse_bare(address).unwrap_or_else(|_| panic!("{address} is an address"))
}

/// Runs all rules against an empty store.
///
/// # Panics
/// If a rule is broken.
#[allow(clippy::unwrap_used, clippy::panic, reason = "called by tests alone")]
pub async fn run(store: &dyn Store) {
    what_is_put_is_read_back_whole(store).await;
    a_mode_leaves_out_what_it_does_not_write(store).await;
    a_change_is_seen_by_the_next_read(store).await;
    lists_are_paged_in_order(store).await;
    a_secret_stays_the_same(store).await;
    messages::run(store).await;
    rosters::run(store).await;
    documents::run(store).await;
}

/// Writes an account, new and without anything.
#[allow(clippy::unwrap_used, reason = "called by tests alone")]
async fn fresh(store: &dyn Store, address: &str) -> BareJid {
    let account = account(address, 1);
    store.remove(&account.jid).await.unwrap();
    store.put(std::slice::from_ref(&account), PutMode::Create).await.unwrap();
    account.jid
}

#[allow(clippy::unwrap_used, reason = "called by tests alone")]
async fn what_is_put_is_read_back_whole(store: &dyn Store) {
    let juliet = account("juliet@example.com", 1);
    let mut only_sha256 = account("sha256@example.com", 2);
    only_sha256.credentials.sha1 = None;
    only_sha256.credentials.sha512 = None;
    let bare_account = Account { jid: bare("none@example.com"), credentials: Credentials::default() };
    let all = [juliet, only_sha256, bare_account];
    store.put(&all, PutMode::Create).await.unwrap();
    for account in &all {
        // Twice: once from the database, once from whatever remembers it.
        for _ in 0..2 {
            assert_eq!(store.credentials(&account.jid).await.unwrap().as_ref(), Some(&account.credentials));
        }
        assert!(store.exists(&account.jid).await.unwrap());
    }
    assert_eq!(store.count().await.unwrap(), 3);
    let nobody = bare("nobody@example.com");
    assert_eq!(store.credentials(&nobody).await.unwrap(), None);
    assert!(!store.exists(&nobody).await.unwrap());
}

#[allow(clippy::unwrap_used, reason = "called by tests alone")]
async fn a_mode_leaves_out_what_it_does_not_write(store: &dyn Store) {
    let (new, old) = (account("new@example.com", 3), account("juliet@example.com", 9));
    let other = account("other@example.com", 5);
    assert_eq!(store.put(&[old.clone(), other.clone()], PutMode::Create).await.unwrap(), [0]);
    assert_eq!(store.credentials(&old.jid).await.unwrap(), Some(account("juliet@example.com", 1).credentials));
    assert!(store.remove(&other.jid).await.unwrap());
    assert_eq!(store.put(&[old.clone(), new.clone()], PutMode::Replace).await.unwrap(), [1]);
    assert_eq!(store.credentials(&new.jid).await.unwrap(), None);
    assert_eq!(store.credentials(&old.jid).await.unwrap(), Some(old.credentials.clone()));
    assert!(store.put(&[new.clone(), old.clone()], PutMode::Upsert).await.unwrap().is_empty());
    assert_eq!(store.credentials(&new.jid).await.unwrap(), Some(new.credentials));
}

#[allow(clippy::unwrap_used, reason = "called by tests alone")]
async fn a_change_is_seen_by_the_next_read(store: &dyn Store) {
    for mark in 10..20 {
        let changed = account("juliet@example.com", mark);
        store.put(std::slice::from_ref(&changed), PutMode::Replace).await.unwrap();
        assert_eq!(store.credentials(&changed.jid).await.unwrap(), Some(changed.credentials));
    }
    let gone = bare("new@example.com");
    assert!(store.remove(&gone).await.unwrap());
    assert!(!store.remove(&gone).await.unwrap());
    assert_eq!(store.credentials(&gone).await.unwrap(), None);
    store.put(&[account("new@example.com", 4)], PutMode::Create).await.unwrap();
    assert!(store.credentials(&gone).await.unwrap().is_some());
}

#[allow(clippy::unwrap_used, reason = "called by tests alone")]
async fn lists_are_paged_in_order(store: &dyn Store) {
    let mut listed = Vec::new();
    loop {
        let page = store.list(listed.last(), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    let names: Vec<_> = listed.iter().map(|jid| jid.as_str()).collect();
    assert_eq!(names, ["juliet@example.com", "new@example.com", "none@example.com", "sha256@example.com"]);
}

#[allow(clippy::unwrap_used, reason = "called by tests alone")]
async fn a_secret_stays_the_same(store: &dyn Store) {
    let first = store.secret("salt", 32).await.unwrap();
    assert_eq!(first.len(), 32);
    assert!(first.iter().any(|byte| *byte != 0));
    assert_eq!(store.secret("salt", 32).await.unwrap(), first);
    assert_ne!(store.secret("other", 32).await.unwrap(), first);
}
