//! The schema: what it refuses and with which words, what it fills in, and that nothing in it is without a bound.

#![allow(clippy::panic, clippy::unwrap_used, reason = "what fails fails the test")]

mod common;

use std::collections::BTreeSet;

use kube::core::cel::{Validator, compile_schema, estimate_rule_cost};
use serde_json::{Value, json};
use starling_operator::crd::{XmppServerSpec, definition};

use common::{parse, refusals::refusals, set, value};

/// The schema of the whole resource.
fn schema() -> Value {
    let definition = serde_json::to_value(definition()).unwrap();
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
}

/// What the rules say against it.
fn refused(schema: &Value, resource: &Value, old: Option<&Value>) -> Vec<String> {
    match Validator::new().validate(schema, resource, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
    }
}

#[test]
fn good_resources_are_taken() {
    let schema = schema();
    for name in ["standalone", "standalone-full", "distributed", "everything"] {
        let resource = value(name);
        assert_eq!(refused(&schema, &resource, None), [""; 0], "{name}");
        assert_eq!(refused(&schema, &resource, Some(&resource)), [""; 0], "{name}");
    }
}

#[test]
fn each_rule_refuses_in_words_for_people() {
    let schema = schema();
    let mut heard = BTreeSet::new();
    for (name, changes, words) in refusals() {
        let old = value(name.trim_end_matches('|'));
        let mut resource = old.clone();
        for (path, to) in &changes {
            set(&mut resource, path, to.clone());
        }
        let said = refused(&schema, &resource, name.ends_with('|').then_some(&old));
        assert!(said.iter().any(|message| message.contains(words)), "{changes:?}: {said:?}");
        heard.extend(said);
    }
    let (mut old, mut larger) = (value("standalone"), value("standalone"));
    set(&mut old, "spec.storage", json!({}));
    set(&mut larger, "spec.storage", json!({"size": "2Gi"}));
    heard.extend(refused(&schema, &larger, Some(&old)));
    for rule in rules(&schema) {
        let message = rule["message"].as_str().unwrap_or_else(|| panic!("without words: {rule}"));
        assert!(heard.contains(message), "no case for: {message}");
    }
}

/// All rules below.
fn rules(schema: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    each(schema, "", &mut |_, schema| {
        found.extend(schema["x-kubernetes-validations"].as_array().into_iter().flatten().cloned());
    });
    found
}

/// Visits a schema and all below it, with their paths.
fn each(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        each(field, &format!("{path}.{name}"), visit);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            each(&schema[key], &format!("{path}{mark}"), visit);
        }
    }
}

#[test]
fn the_api_server_will_not_find_the_rules_too_costly() {
    each(&schema(), "", &mut |path, schema| {
        let compiled = compile_schema(schema);
        assert!(!compiled.has_errors(), "{path}: {:?}", compiled.compilation_errors());
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let warnings = estimate_rule_cost(rule["rule"].as_str().unwrap(), &compiled);
            assert!(warnings.is_empty(), "{path}: {warnings:?}");
        }
    });
}

#[test]
fn every_field_is_described_and_has_a_bound() {
    let schema = schema();
    let spec_and_status = ["spec", "status"].map(|name| (name, &schema["properties"][name]));
    for (name, part) in spec_and_status {
        each(part, name, &mut |path, schema| {
            let is_entry = path.ends_with("[]") || path.ends_with("{}");
            assert!(is_entry || schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
            assert!(schema.get("nullable").is_none(), "{path}: null is to be the same as absent");
            let is_text = schema["type"] == "string" || schema["x-kubernetes-int-or-string"] == true;
            let is_bounded =
                schema.get("maxLength").is_some() || schema.get("enum").is_some() || schema["format"] == "date-time";
            assert!(!is_text || is_bounded, "{path}");
            assert!(schema["type"] != "array" || schema.get("maxItems").is_some(), "{path}");
            assert!(!schema["additionalProperties"].is_object() || schema.get("maxProperties").is_some(), "{path}");
            // Structural: each node says what it is.
            assert!(schema.get("type").is_some() || schema["x-kubernetes-int-or-string"] == true, "{path}");
        });
    }
}

#[test]
fn every_list_says_how_it_is_merged() {
    let schema = schema();
    each(&schema["properties"]["spec"], "spec", &mut |path, schema| {
        let is_foreign = ["scheduling", "metricsFrom", "backends"].iter().any(|foreign| path.contains(foreign));
        // The order of mechanisms counts; it is a set all the same.
        assert!(schema["type"] != "array" || is_foreign || schema.get("x-kubernetes-list-type").is_some(), "{path}");
    });
}

#[test]
fn the_definition_fits_into_what_kubectl_keeps_of_it() {
    let size = serde_json::to_string(&definition()).unwrap().len();
    assert!(size < 200 * 1024, "{size}");
}

#[test]
fn columns_and_subresources_lead_to_fields_that_there_are() {
    let definition = serde_json::to_value(definition()).unwrap();
    let version = &definition["spec"]["versions"][0];
    let names: Vec<_> =
        version["additionalPrinterColumns"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["Domains", "C2S", "Version", "Ready", "Reason", "Age", "Message", "Profile"]);
    let schema = schema();
    let has = |path: &str| {
        let path = path.split("[?").next().unwrap();
        path.split('.').skip(1).try_fold(&schema, |schema, name| schema["properties"].get(name)).is_some()
    };
    let scale = &version["subresources"]["scale"];
    for path in ["specReplicasPath", "statusReplicasPath", "labelSelectorPath"] {
        assert!(has(scale[path].as_str().unwrap()), "{path}");
    }
    for column in version["additionalPrinterColumns"].as_array().unwrap() {
        let path = column["jsonPath"].as_str().unwrap();
        assert!(path.starts_with(".metadata") || has(path), "{path}");
    }
    assert_eq!(definition["spec"]["names"]["shortNames"], json!(["xmpp"]));
    assert_eq!(definition["spec"]["scope"], "Namespaced");
}

/// As the API server fills in what is left out.
fn filled(schema: &Value, value: &mut Value) {
    if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object_mut()) {
        for (name, schema) in properties {
            if let Some(default) = schema.get("default") {
                fields.entry(name).or_insert_with(|| default.clone());
            }
            if let Some(field) = fields.get_mut(name) {
                filled(schema, field);
            }
        }
    }
    if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(|item| filled(&schema["items"], item));
    }
}

#[test]
fn what_the_api_server_fills_in_is_what_the_operator_takes_for_left_out() {
    let schema = schema();
    for name in ["standalone", "standalone-full", "distributed", "everything"] {
        let resource = value(name);
        let mut full = resource.clone();
        filled(&schema, &mut full);
        assert_eq!(parse(&resource).spec, parse(&full).spec, "{name}");
        // And nothing that it writes is dropped by the schema, or filled in again as something else.
        let spec: XmppServerSpec = parse(&full).spec;
        let mut written = json!({ "spec": spec });
        let before = written.clone();
        filled(&schema, &mut written);
        assert_eq!(written, before, "{name}");
    }
}

#[test]
fn quantities_are_numbers_or_text() {
    let mut resource = value("distributed");
    set(&mut resource, "spec.c2s.resources", json!({"requests": {"cpu": 2, "memory": "1Gi"}}));
    let resources = parse(&resource).spec.c2s.pods.resources.unwrap();
    assert_eq!((resources.requests["cpu"].0.as_str(), resources.requests["memory"].0.as_str()), ("2", "1Gi"));
}
