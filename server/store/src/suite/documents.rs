//! Rules of documents.

#![allow(clippy::unwrap_used, reason = "called by tests alone")]

use super::{bare, fresh};
use crate::Store;

pub(super) async fn run(store: &dyn Store) {
    what_is_put_is_read_back(store).await;
    a_kind_is_bounded(store).await;
    one_is_changed_only_as_it_was_read(store).await;
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

async fn one_is_changed_only_as_it_was_read(store: &dyn Store) {
    let account = fresh(store, "swapped@documents").await;
    let swap = |before: Option<&'static [u8]>, after: Option<&'static [u8]>| {
        let account = account.clone();
        async move { store.swap_document(&account, "privacy", "", before, after).await.unwrap() }
    };
    assert!(!swap(Some(b"1"), Some(b"2")).await, "there is none");
    assert!(swap(None, Some(b"1")).await && !swap(None, Some(b"2")).await);
    assert!(swap(Some(b"1"), Some(b"")).await && !swap(Some(b"1"), Some(b"2")).await && !swap(None, Some(b"2")).await);
    assert_eq!(store.document(&account, "privacy", "").await.unwrap().as_deref(), Some(&b""[..]));
    assert!(!swap(Some(b"1"), None).await && swap(Some(b""), None).await && swap(None, None).await);
    assert_eq!(store.document(&account, "privacy", "").await.unwrap(), None);
    assert!(!store.swap_document(&bare("nobody@documents"), "privacy", "", None, Some(b"1")).await.unwrap());
    // Of many who change it at once, each has read what the one before has written.
    let change = |letter: u8| {
        let account = account.clone();
        async move {
            loop {
                let before = store.document(&account, "privacy", "").await.unwrap();
                let after = [before.as_deref().unwrap_or_default(), &[letter]].concat();
                if store.swap_document(&account, "privacy", "", before.as_deref(), Some(&after)).await.unwrap() {
                    return;
                }
            }
        }
    };
    futures_util::future::join_all((b'a'..=b'h').map(change)).await;
    let mut all = store.document(&account, "privacy", "").await.unwrap().unwrap();
    all.sort_unstable();
    assert_eq!(all, b"abcdefgh");
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
