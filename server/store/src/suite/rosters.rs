//! Rules of rosters.

#![allow(clippy::unwrap_used, clippy::panic, reason = "called by tests alone")]

use starling_xmpp::jid::BareJid;

use super::{bare, fresh};
use crate::{ItemChange, ItemChanged, Roster, RosterItem, Store, Subscription};

pub(super) async fn run(store: &dyn Store) {
    items_are_read_back_whole(store).await;
    a_change_sees_what_is_there(store).await;
    a_roster_is_bounded(store).await;
    what_changed_since_a_version_is_told(store).await;
    removed_items_are_remembered_for_a_while(store).await;
    a_roster_goes_with_its_account(store).await;
}

fn item(contact: &str) -> RosterItem {
    RosterItem {
        contact: bare(contact),
        name: None,
        groups: Vec::new(),
        subscription: Subscription::None,
        ask: false,
        pending_in: None,
        approved: false,
        listed: true,
        version: 0,
    }
}

/// Writes it, and returns the version.
async fn put(store: &dyn Store, account: &BareJid, item: RosterItem) -> u64 {
    let contact = item.contact.clone();
    let change = move |_: Option<&RosterItem>| ItemChange::Put(item.clone());
    match store.change_item(account, &contact, 1000, &change).await.unwrap() {
        ItemChanged::Changed { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

async fn remove(store: &dyn Store, account: &BareJid, contact: &str) -> ItemChanged {
    store.change_item(account, &bare(contact), 1000, &|_| ItemChange::Remove).await.unwrap()
}

async fn items_are_read_back_whole(store: &dyn Store) {
    let account = fresh(store, "juliet@rosters").await;
    assert_eq!(store.roster(&account).await.unwrap().items, []);
    let mut all = vec![item("a@example.net"), item("b@example.net"), item("c@example.net"), item("d@example.net")];
    let subscriptions = [Subscription::None, Subscription::To, Subscription::From, Subscription::Both];
    for (item, subscription) in all.iter_mut().zip(subscriptions) {
        item.subscription = subscription;
    }
    all[0].name = Some("R\u{f3}meo & \u{1f600}".to_owned());
    all[0].groups = vec!["Friends".to_owned(), "Montague, 'by' birth".to_owned(), " ".to_owned()];
    all[1].name = Some(String::new());
    all[1].ask = true;
    all[2].approved = true;
    all[3].pending_in = Some((0..=255).collect());
    all[3].listed = false;
    // Not in the order in which they are read.
    for position in [2, 0, 3, 1] {
        all[position].version = put(store, &account, all[position].clone()).await;
    }
    let version = all.iter().map(|item| item.version).max().unwrap();
    assert_eq!(store.roster(&account).await.unwrap(), Roster { version, items: all.clone() });
    let mut changed = item("a@example.net");
    changed.version = put(store, &account, changed.clone()).await;
    assert_eq!(changed.version, version + 1);
    all[0] = changed;
    assert_eq!(store.roster(&account).await.unwrap(), Roster { version: version + 1, items: all });
}

async fn a_change_sees_what_is_there(store: &dyn Store) {
    let account = fresh(store, "changes@rosters").await;
    let contact = bare("a@example.net");
    let keep = |before: Option<&RosterItem>| {
        assert_eq!(before, None);
        ItemChange::Keep
    };
    let kept = store.change_item(&account, &contact, 1000, &keep).await;
    assert_eq!(kept.unwrap(), ItemChanged::Kept(None));
    assert_eq!(remove(store, &account, "a@example.net").await, ItemChanged::Kept(None));
    let first = store.roster(&account).await.unwrap().version;

    let version = put(store, &account, item("a@example.net")).await;
    assert_eq!(version, first + 1, "what changed nothing does not count");
    let there = RosterItem { version, ..item("a@example.net") };
    let keep = |before: Option<&RosterItem>| {
        assert_eq!(before, Some(&there));
        ItemChange::Keep
    };
    let kept = store.change_item(&account, &contact, 1000, &keep).await;
    assert_eq!(kept.unwrap(), ItemChanged::Kept(Some(there.clone())));
    // The address is the caller's, whatever the item says.
    let changed = store
        .change_item(&account, &contact, 1000, &|_| {
            ItemChange::Put(RosterItem { ask: true, ..item("other@example.net") })
        })
        .await
        .unwrap();
    let after = RosterItem { ask: true, version: version + 1, ..there.clone() };
    let expected = ItemChanged::Changed { version: version + 1, before: Some(there), after: Some(after.clone()) };
    assert_eq!(changed, expected);
    let removed = remove(store, &account, "a@example.net").await;
    assert_eq!(removed, ItemChanged::Changed { version: version + 2, before: Some(after), after: None });
    assert_eq!(store.roster(&account).await.unwrap(), Roster { version: version + 2, items: Vec::new() });
}

async fn a_roster_is_bounded(store: &dyn Store) {
    let account = fresh(store, "bounded@rosters").await;
    let put = |contact: &'static str| {
        let account = &account;
        async move {
            let change = |_: Option<&RosterItem>| ItemChange::Put(item(contact));
            store.change_item(account, &bare(contact), 2, &change).await.unwrap()
        }
    };
    assert!(matches!(put("a@example.net").await, ItemChanged::Changed { .. }));
    assert!(matches!(put("b@example.net").await, ItemChanged::Changed { .. }));
    let before = store.roster(&account).await.unwrap();
    assert_eq!(put("c@example.net").await, ItemChanged::TooMany);
    assert_eq!(store.roster(&account).await.unwrap(), before);
    assert!(matches!(put("b@example.net").await, ItemChanged::Changed { .. }), "one that is there can be changed");
    remove(store, &account, "a@example.net").await;
    assert!(matches!(put("c@example.net").await, ItemChanged::Changed { .. }));
}

async fn what_changed_since_a_version_is_told(store: &dyn Store) {
    let account = fresh(store, "since@rosters").await;
    let mut versions = Vec::new();
    for contact in ["a@example.net", "b@example.net", "c@example.net"] {
        versions.push(put(store, &account, item(contact)).await);
    }
    remove(store, &account, "a@example.net").await;
    let changed = put(store, &account, RosterItem { ask: true, ..item("b@example.net") }).await;
    let since = |version| {
        let account = &account;
        async move {
            let (now, changes) = store.roster_since(account, version).await.unwrap().unwrap();
            assert_eq!(now, changed);
            let text = |(contact, item): (BareJid, Option<RosterItem>)| {
                let sign = if item.is_some() { "+" } else { "-" };
                assert!(item.is_none_or(|item| item.contact == contact && item.version > version));
                format!("{sign}{contact}")
            };
            changes.into_iter().map(text).collect::<Vec<_>>()
        }
    };
    // In the order in which they were changed last.
    let (a, b, c) = ("-a@example.net", "+b@example.net", "+c@example.net");
    assert_eq!(since(versions[0]).await, [c, a, b]);
    assert_eq!(since(versions[1]).await, [c, a, b]);
    assert_eq!(since(versions[2]).await, [a, b]);
    assert_eq!(since(changed).await, [""; 0]);
    assert_eq!(store.roster_since(&account, changed + 1).await.unwrap(), None, "no version of it");
    // Who comes back is there, and was not removed.
    put(store, &account, item("a@example.net")).await;
    let (_, changes) = store.roster_since(&account, changed).await.unwrap().unwrap();
    assert!(matches!(&changes[..], [(contact, Some(_))] if contact.as_str() == "a@example.net"), "{changes:?}");
}

async fn removed_items_are_remembered_for_a_while(store: &dyn Store) {
    let account = fresh(store, "removed@rosters").await;
    let start = put(store, &account, item("stays@example.net")).await;
    let mut last = start;
    for number in 0..300 {
        let contact = format!("user{number}@example.net");
        put(store, &account, item(&contact)).await;
        match remove(store, &account, &contact).await {
            ItemChanged::Changed { version, .. } => last = version,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.roster_since(&account, start).await.unwrap(), None, "too long ago");
    // Two versions for each contact.
    let (_, changes) = store.roster_since(&account, last - 2 * 256).await.unwrap().unwrap();
    assert_eq!(changes.len(), 256);
    assert_eq!(store.roster_since(&account, last - 2 * 257).await.unwrap(), None);
    assert_eq!(store.roster(&account).await.unwrap().items.len(), 1);
}

async fn a_roster_goes_with_its_account(store: &dyn Store) {
    let account = fresh(store, "gone@rosters").await;
    put(store, &account, item("a@example.net")).await;
    remove(store, &account, "a@example.net").await;
    put(store, &account, item("b@example.net")).await;
    store.remove(&account).await.unwrap();
    assert_eq!(store.roster(&account).await.unwrap().items, []);
    let nobody = bare("nobody@rosters");
    for account in [&account, &nobody] {
        let change = |_: Option<&RosterItem>| ItemChange::Put(item("a@example.net"));
        let changed = store.change_item(account, &bare("a@example.net"), 1000, &change).await.unwrap();
        assert_eq!(changed, ItemChanged::Kept(None));
        assert_eq!(store.roster(account).await.unwrap(), Roster::default());
    }
}
