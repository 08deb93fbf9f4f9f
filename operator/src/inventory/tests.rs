use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::*;

/// A ConfigMap of `uid`, of which we own `fields`.
fn object(name: &str, version: u64, uid: &str, fields: &serde_json::Value) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-of-{name}"), "resourceVersion": version.to_string(),
            "ownerReferences": [
                { "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer", "name": "chat", "uid": uid }
            ],
            "managedFields": [
                { "manager": "somebody", "operation": "Update", "fieldsV1": { "f:data": {} } },
                { "manager": "starling-operator", "operation": "Apply", "fieldsV1": fields },
                { "manager": "starling-operator", "operation": "Apply", "subresource": "status", "fieldsV1": {} },
            ],
        },
    }))
    .unwrap()
}

fn read(object: &ConfigMap) -> Option<(ServerKey, Child)> {
    Child::read(&object.metadata, State::Plain)
}

fn server() -> ServerKey {
    ServerKey { namespace: "ns".to_owned(), name: "chat".to_owned() }
}

fn key(name: &str) -> Key {
    Key { kind: "ConfigMap".to_owned(), name: name.to_owned() }
}

fn need(inventory: &Inventory, name: &str, desired: &str) -> Need {
    inventory.of(&server(), "one").need(&key(name), desired)
}

#[test]
fn an_object_is_as_we_left_it_while_we_own_what_we_applied() {
    let (inventory, mut teller) = (Inventory::default(), Teller::new("ConfigMap"));
    let mut tell = |event| teller.take(&inventory, event, read);
    let ours = json!({ "f:data": { "f:a": {} } });
    assert_eq!(need(&inventory, "a", "1"), Need::Missing);

    // Known from a list, without knowing what it was made from.
    assert_eq!(tell(Event::Apply(object("a", 5, "one", &ours))), [server()]);
    assert_eq!(need(&inventory, "a", "1"), Need::Changed);

    inventory.applied("ConfigMap", &object("a", 6, "one", &ours).metadata, State::Plain, "1");
    assert_eq!(need(&inventory, "a", "1"), Need::Nothing);
    assert_eq!(need(&inventory, "a", "2"), Need::Changed);

    // The watch tells what we know from the answer, and what came before it.
    assert!(tell(Event::Apply(object("a", 6, "one", &ours))).is_empty());
    assert!(tell(Event::Apply(object("a", 4, "one", &json!({})))).is_empty());
    assert_eq!(need(&inventory, "a", "1"), Need::Nothing);

    // Somebody writes fields of his own: none of our business.
    assert!(tell(Event::Apply(object("a", 7, "one", &ours))).is_empty());
    // Somebody takes one of ours.
    assert_eq!(tell(Event::Apply(object("a", 8, "one", &json!({})))), [server()]);
    assert_eq!(need(&inventory, "a", "1"), Need::Drifted);

    assert_eq!(tell(Event::Delete(object("a", 9, "one", &ours))), [server()]);
    assert_eq!(need(&inventory, "a", "1"), Need::Missing);
    assert!(inventory.lock().is_empty(), "nothing is kept of what is gone");
}

#[test]
fn what_a_new_list_lacks_is_gone() {
    let (inventory, mut teller) = (Inventory::default(), Teller::new("ConfigMap"));
    let mut tell = |event| teller.take(&inventory, event, read);
    let ours = json!({});
    tell(Event::Init);
    tell(Event::InitApply(object("a", 5, "one", &ours)));
    tell(Event::InitApply(object("b", 6, "one", &ours)));
    assert!(!inventory.is_listed(&["ConfigMap".to_owned()].into()));
    assert!(tell(Event::InitDone).is_empty());
    assert!(inventory.is_listed(&["ConfigMap".to_owned()].into()));

    tell(Event::Init);
    tell(Event::InitApply(object("b", 6, "one", &ours)));
    assert_eq!(tell(Event::InitDone), [server()]);
    assert_eq!(need(&inventory, "a", ""), Need::Missing);
    assert_eq!(need(&inventory, "b", ""), Need::Changed);
}

#[test]
fn what_an_earlier_server_of_the_same_name_left_is_not_this_ones() {
    let (inventory, mut teller) = (Inventory::default(), Teller::new("ConfigMap"));
    teller.take(&inventory, Event::Apply(object("a", 5, "another", &json!({}))), read);
    assert_eq!(need(&inventory, "a", ""), Need::Missing);
}
