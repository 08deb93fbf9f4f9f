use kube::{
    Resource as _,
    runtime::reflector::{Store, store, store::Writer},
};
use serde_json::json;

use super::*;
use crate::controller::reference;

fn server(name: &str, generation: i64) -> Guarded {
    serde_json::from_value(json!({
        "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer",
        "metadata": { "name": name, "namespace": "ns", "uid": format!("uid-of-{name}"), "generation": generation },
        "spec": { "domains": [{ "name": "example.com" }] },
    }))
    .unwrap()
}

/// What looks find servers in, and what says whom to look after.
struct Told {
    store: Store<Guarded>,
    writer: Writer<Guarded>,
    known: Known,
}

impl Told {
    fn new() -> Self {
        let (store, writer) = store();
        Self { store, writer, known: Known::default() }
    }

    /// Whom an event concerns, each with the generation that a look would find; then who is gone.
    fn take(&mut self, event: &Event<Guarded>) -> (Vec<(String, Option<i64>)>, Vec<String>) {
        self.writer.apply_watcher_event(event);
        let (concerned, gone) = self.known.take(event);
        let generation = |key| self.store.get(&reference(key)).and_then(|server| server.meta().generation);
        let concerned = concerned.iter().map(|key| (key.name.clone(), generation(key))).collect();
        (concerned, gone.into_iter().map(|key| key.name).collect())
    }
}

/// One, as a look is to find it.
fn one(name: &str, generation: i64) -> (Vec<(String, Option<i64>)>, Vec<String>) {
    (vec![(name.to_owned(), Some(generation))], Vec::new())
}

fn nobody() -> (Vec<(String, Option<i64>)>, Vec<String>) {
    Default::default()
}

#[test]
fn a_change_concerns_its_server_once() {
    let mut told = Told::new();
    assert_eq!(told.take(&Event::Apply(server("chat", 1))), one("chat", 1));
    assert_eq!(told.take(&Event::Apply(server("chat", 1))), nobody());
    assert_eq!(told.take(&Event::Apply(server("chat", 2))), one("chat", 2));
    assert_eq!(told.take(&Event::Delete(server("chat", 2))), (Vec::new(), vec!["chat".to_owned()]));
    assert_eq!(told.known.len(), 0);
    assert_eq!(told.take(&Event::Apply(server("chat", 2))), one("chat", 2), "another one of the same name");
}

#[test]
fn nobody_is_sent_to_look_for_what_a_list_tells_before_it_can_be_found() {
    let mut told = Told::new();
    assert_eq!(told.take(&Event::Init), nobody());
    assert_eq!(told.take(&Event::InitApply(server("chat", 1))), nobody());
    assert_eq!(told.take(&Event::InitDone), one("chat", 1));
    // Listed anew after a change that no event told.
    assert_eq!(told.take(&Event::Init), nobody());
    assert_eq!(told.take(&Event::InitApply(server("chat", 2))), nobody());
    assert_eq!(told.take(&Event::InitDone), one("chat", 2));
    // And after none.
    assert_eq!(told.take(&Event::Init), nobody());
    assert_eq!(told.take(&Event::InitApply(server("chat", 2))), nobody());
    assert_eq!(told.take(&Event::InitDone), nobody());
}

#[test]
fn what_a_list_told_that_broke_off_is_told_by_the_next() {
    let mut told = Told::new();
    told.take(&Event::Init);
    told.take(&Event::InitApply(server("chat", 1)));
    told.take(&Event::InitApply(server("other", 1)));
    assert_eq!(told.take(&Event::Init), nobody());
    assert_eq!(told.take(&Event::InitApply(server("chat", 1))), nobody());
    let (concerned, gone) = told.take(&Event::InitDone);
    assert_eq!(concerned, one("chat", 1).0);
    assert_eq!(gone, ["other"], "it went while nobody listened");
}
