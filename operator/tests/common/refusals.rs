//! What the schema's rules refuse, and in which words.

use serde_json::{Value, json};

pub type Refusal = (&'static str, Vec<(&'static str, Value)>, &'static str);

/// A resource, what is changed in it, and the words that follow. With `|`, it is a change of one that exists.
pub fn refusals() -> Vec<Refusal> {
    let change = |path, to| vec![(path, to)];
    vec![
        ("distributed", change("metadata.name", json!("Chat")), "the name begins the names of Services"),
        ("distributed", change("metadata.name", json!("a".repeat(41))), "the name begins the names of Services"),
        ("distributed", change("spec.redis", Value::Null), "a Distributed server needs redis"),
        ("distributed", change("spec.database", Value::Null), "a Distributed server needs a database"),
        ("distributed", change("spec.tls", Value::Null), "a Distributed server needs tls"),
        ("standalone", change("spec.redis", json!({"secretRef": {"name": "r"}})), "a Standalone server needs no redis"),
        (
            "standalone",
            change("spec.database", json!({"secretRef": {"name": "d"}})),
            "a Standalone server keeps its data in its volume",
        ),
        ("standalone", change("spec.session", json!({})), "a Standalone server does everything in one pod"),
        ("standalone", change("spec.router", json!({})), "a Standalone server does everything in one pod"),
        ("standalone", change("spec.c2s.replicas", json!(3)), "a Standalone server is one pod"),
        (
            "standalone",
            change("spec.c2s.autoscaling", json!({"maxReplicas": 3, "targetSessions": 1})),
            "a Standalone server is one pod",
        ),
        ("distributed", change("spec.storage", json!({})), "a Distributed server keeps nothing in its pods"),
        ("standalone|", change("spec.storage", json!({})), "storage cannot be added or taken away"),
        ("standalone|", change("spec.profile", json!("Distributed")), "the profile cannot be changed"),
        ("everything|", change("spec.redis.keyPrefix", json!("small")), "keyPrefix cannot be changed"),
        ("everything|", change("spec.redis.keyPrefix", Value::Null), "keyPrefix cannot be changed"),
        ("distributed|", change("spec.redis.keyPrefix", json!("chat")), "keyPrefix cannot be changed"),
        ("distributed", change("spec.tls", json!({})), "exactly one of issuerRef and secretRefs"),
        (
            "distributed",
            change("spec.tls.secretRefs", json!([{"name": "tls"}])),
            "exactly one of issuerRef and secretRefs",
        ),
        ("distributed", change("spec.redis.ca", json!({})), "exactly one of secretRef and configMapRef"),
        ("everything", change("spec.c2s.autoscaling.minReplicas", json!(31)), "minReplicas is more than maxReplicas"),
        ("distributed", change("spec.c2s.autoscaling", json!({"maxReplicas": 3})), "a target is needed"),
        (
            "distributed",
            change("spec.router.autoscaling", json!({"maxReplicas": 3, "targetSessions": 5})),
            "targetSessions is for c2s",
        ),
        (
            "distributed",
            change("spec.session.autoscaling", json!({"maxReplicas": 3, "targetSessions": 5})),
            "targetSessions is for c2s",
        ),
        (
            "distributed",
            change("spec.c2s.podLabels", json!({"app.kubernetes.io/name": "mine"})),
            "labels under app.kubernetes.io/ and starling.im/ are the operator's",
        ),
        (
            "distributed",
            change("spec.router.podAnnotations", json!({"starling.im/settings-hash": "mine"})),
            "annotations under starling.im/ are the operator's",
        ),
        (
            "distributed",
            change("spec.c2s.service", json!({"type": "NodePort", "loadBalancerClass": "c"})),
            "loadBalancerClass is for type LoadBalancer",
        ),
        (
            "distributed",
            change("spec.c2s.service", json!({"type": "NodePort", "loadBalancerSourceRanges": ["10.0.0.0/8"]})),
            "loadBalancerSourceRanges is for type LoadBalancer",
        ),
        (
            "distributed",
            change("spec.c2s.service", json!({"type": "ClusterIP", "externalTrafficPolicy": "Local"})),
            "externalTrafficPolicy is for types LoadBalancer and NodePort",
        ),
        (
            "distributed",
            change("spec.c2s.service", json!({"ipFamilies": ["IPv4", "IPv6"]})),
            "two ipFamilies need ipFamilyPolicy",
        ),
        (
            "distributed",
            change("spec.c2s.service", json!({"loadBalancerSourceRanges": ["192.0.2.1"]})),
            "each is a network, like 192.0.2.0/24",
        ),
        (
            "distributed",
            change("spec.c2s.proxyProtocol", json!({"trusted": ["10.0.0.0/33"]})),
            "each is a network, like 10.0.0.0/8",
        ),
        (
            "distributed",
            change("spec.limits", json!({"stanzaBytes": 10000, "stanzaBytesBeforeLogin": 10001})),
            "stanzaBytesBeforeLogin is more than stanzaBytes",
        ),
        ("distributed", change("spec.domains.0.name", json!("Example.com")), "a domain is written in lower-case"),
        ("distributed", change("spec.domains.0.name", json!("ex_ample.com")), "a domain is written in lower-case"),
        ("distributed", change("spec.domains.0.serviceHosts", json!(["-a.b"])), "a domain is written in lower-case"),
        ("distributed", change("spec.admins", json!(["alice"])), "each is a bare address"),
        ("distributed", change("spec.admins", json!(["a\"b@example.com"])), "each is a bare address"),
        ("distributed", change("spec.firstAdmin", json!({"address": "a@b/c"})), "it is a bare address"),
        ("distributed", change("spec.auth", json!({"mechanisms": ["MD5"]})), "mechanisms are SCRAM-SHA-1"),
        ("distributed", change("spec.log", json!({"level": "loud"})), "levels are off"),
        ("distributed", change("spec.redis.keyPrefix", json!("a{b}")), "keyPrefix is of visible ASCII"),
    ]
}
