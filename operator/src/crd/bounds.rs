//! The definition as it goes to a cluster: with a bound on everything that can grow.
//!
//! Types that are Kubernetes' own (affinity, tolerations, …) come without bounds, and with descriptions of pages. Without
//! bounds, the API server takes CEL rules for endlessly costly, and an object can be as large as it likes; with the whole
//! descriptions, the definition is too large for `kubectl apply`, which keeps a copy in an annotation of at most 256 KiB.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;

use super::XmppServer;

const ITEMS: i64 = 64;
const LENGTH: i64 = 4096;
const PROPERTIES: i64 = 64;
/// As Kubernetes reads quantities: `250m`, `1.5`, `2Gi`, `1e3`.
const QUANTITY: &str = r"^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$";
/// Fields of types that are Kubernetes' own.
const FOREIGN: [&str; 8] = [
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "metricsFrom",
    "backends",
    "conditions",
    "requests",
    "limits",
];

/// The CustomResourceDefinition.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut definition = XmppServer::crd();
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(properties) = schema.and_then(|schema| schema.properties.as_mut()) {
            properties.values_mut().for_each(bound);
        }
    }
    definition
}

fn bound(schema: &mut JSONSchemaProps) {
    // What is null is taken for absent then, by defaults and by rules alike.
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
    let has_words = schema.enum_.is_some() || schema.format.as_deref() == Some("date-time");
    let may_be_text = schema.type_.as_deref() == Some("string") || schema.x_kubernetes_int_or_string == Some(true);
    if may_be_text && !has_words {
        schema.max_length.get_or_insert(LENGTH);
    }
    if schema.description.as_deref().is_some_and(|text| text.starts_with("Quantity is")) {
        schema.pattern = Some(QUANTITY.to_owned());
        schema.max_length = Some(32);
    }
    if matches!(schema.items, Some(JSONSchemaPropsOrArray::Schema(_))) {
        schema.max_items.get_or_insert(ITEMS);
    }
    if matches!(schema.additional_properties, Some(JSONSchemaPropsOrBool::Schema(_))) {
        schema.max_properties.get_or_insert(PROPERTIES);
    }
    for (name, inner) in children(schema) {
        bound(inner);
        if name.is_some_and(|name| FOREIGN.contains(&name)) {
            children(inner).into_iter().for_each(|(_, inner)| shorten(inner));
        }
    }
}

/// Of a description, the first sentence.
fn shorten(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        let end = description.find(". ").map_or(description.len(), |at| at + 1);
        description.truncate(end);
    }
    children(schema).into_iter().for_each(|(_, inner)| shorten(inner));
}

/// What stands right below: fields by their names, and what items and values are.
fn children(schema: &mut JSONSchemaProps) -> Vec<(Option<&str>, &mut JSONSchemaProps)> {
    let mut found = Vec::new();
    if let Some(properties) = &mut schema.properties {
        found.extend(properties.iter_mut().map(|(name, inner)| (Some(name.as_str()), inner)));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        found.push((None, &mut **items));
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        found.push((None, &mut **values));
    }
    found
}
