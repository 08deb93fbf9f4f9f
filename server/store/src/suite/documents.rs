//! Rules of documents.

#![allow(clippy::unwrap_used, reason = "called by tests alone")]

use super::{bare, fresh};
use crate::Store;

pub(super) async fn run(store: &dyn Store) {
    what_is_put_is_read_back(store).await;
    a_kind_is_bounded(store).await;
    they_go_with_their_account(store).await;
}

async fn what_is_put_is_read_back(store: &dyn Store) {
    let (juliet, romeo) = (fresh(store, "juliet@documents").await, fresh(store, "romeo@documents").await);
    let everything: Vec<u8> = (0..=255).collect();
    for (key, value) in [("b", &everything[..]), ("a", b"1"), ("\u{e4}\u{1f600}'", b"")] {
        assert!(store.put_document(&juliet, "private", key, value, 10_000).await.unwrap());
        assert_eq!(store.document(&juliet, "private", key).await.unwrap().as_deref(), Some(value), "{key}");
    }
    assert!(store.put_document(&juliet, "private", "a", b"2", 10_000).await.unwrap());
    assert!(store.put_document(&juliet, "vcard", "a", b"3", 10_000).await.unwrap());
    assert!(store.put_document(&romeo, "private", "a", b"4", 10_000).await.unwrap());
    let all = store.documents(&juliet, "private").await.unwrap();
    let expected = [("a", b"2".to_vec()), ("b", everything), ("\u{e4}\u{1f600}'", Vec::new())];
    assert_eq!(all, expected.map(|(key, value)| (key.to_owned(), value)));
    assert_eq!(store.document(&juliet, "private", "A").await.unwrap(), None);

    assert!(store.remove_document(&juliet, "private", "a").await.unwrap());
    assert!(!store.remove_document(&juliet, "private", "a").await.unwrap());
    assert_eq!(store.document(&juliet, "private", "a").await.unwrap(), None);
    assert_eq!(store.document(&juliet, "vcard", "a").await.unwrap(), Some(b"3".to_vec()));
    assert_eq!(store.document(&romeo, "private", "a").await.unwrap(), Some(b"4".to_vec()));
}

async fn a_kind_is_bounded(store: &dyn Store) {
    let account = fresh(store, "bounded@documents").await;
    assert!(store.put_document(&account, "private", "a", &[1; 60], 100).await.unwrap());
    assert!(!store.put_document(&account, "private", "b", &[2; 41], 100).await.unwrap());
    assert_eq!(store.document(&account, "private", "b").await.unwrap(), None);
    assert!(store.put_document(&account, "private", "b", &[3; 40], 100).await.unwrap(), "as much as there may be");
    // What it replaces does not count.
    assert!(store.put_document(&account, "private", "a", &[4; 60], 100).await.unwrap());
    assert!(!store.put_document(&account, "private", "a", &[5; 61], 100).await.unwrap());
    assert_eq!(store.document(&account, "private", "a").await.unwrap(), Some(vec![4; 60]), "it stays as it was");
    assert!(store.put_document(&account, "vcard", "a", &[6; 100], 100).await.unwrap(), "each kind for itself");
}

async fn they_go_with_their_account(store: &dyn Store) {
    let account = fresh(store, "gone@documents").await;
    assert!(store.put_document(&account, "private", "a", b"1", 100).await.unwrap());
    store.remove(&account).await.unwrap();
    assert_eq!(store.document(&account, "private", "a").await.unwrap(), None);
    assert!(!store.put_document(&account, "private", "a", b"1", 100).await.unwrap());
    assert!(!store.remove_document(&bare("nobody@documents"), "private", "a").await.unwrap());
    fresh(store, "gone@documents").await;
    assert_eq!(store.documents(&account, "private").await.unwrap(), []);
}
