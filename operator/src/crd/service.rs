//! The way in for clients.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service that clients connect to: 5222 (STARTTLS) and 5223 (direct TLS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.type == 'LoadBalancer' || !has(self.loadBalancerClass)")
        .message("loadBalancerClass is for type LoadBalancer"),
    validation = Rule::new("self.type == 'LoadBalancer' || !has(self.loadBalancerSourceRanges)")
        .message("loadBalancerSourceRanges is for type LoadBalancer"),
    validation = Rule::new("self.type != 'ClusterIP' || !has(self.externalTrafficPolicy)")
        .message("externalTrafficPolicy is for types LoadBalancer and NodePort"),
    validation = Rule::new(
        "!has(self.ipFamilies) || self.ipFamilies.size() < 2 || (has(self.ipFamilyPolicy) && self.ipFamilyPolicy != 'SingleStack')"
    ).message("two ipFamilies need ipFamilyPolicy PreferDualStack or RequireDualStack")
)]
#[serde(rename_all = "camelCase")]
pub struct C2sService {
    /// How it is reached from outside.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Annotations, as load balancers want them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// The class of load balancer. Cannot be changed on a Service that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// Networks whose clients the load balancer lets in, as `192.0.2.0/24`. Without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 43)))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Set,
        validation = Rule::new("self.all(network, isCIDR(network))").message("each is a network, like 192.0.2.0/24")
    )]
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// `Local` keeps clients' addresses, which limits per address need, and PROXY protocol is not used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
    /// Which addresses it gets, the first first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub ip_families: Option<Vec<IpFamily>>,
    /// Whether it gets addresses of both families.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
}

/// PROXY protocol: load balancers that say whose connection they forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// Networks (`10.0.0.0/8`) whose connections must begin with a PROXY header, version 1 or 2. Nobody else's header is
    /// looked at. A change is taken up without a restart.
    #[schemars(length(min = 1, max = 64), inner(length(max = 43)))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Set,
        validation = Rule::new("self.all(network, isCIDR(network))").message("each is a network, like 10.0.0.0/8")
    )]
    pub trusted: Vec<String>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$inner:meta])* $word:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$inner])* #[serde(rename = $text)] $word),+ }

        impl $name {
            /// As Kubernetes writes it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text),+ }
            }
        }
    };
}

words! {
    /// How a Service is reached from outside.
    #[derive(Default)]
    ServiceType {
        /// From within the cluster alone.
        ClusterIp = "ClusterIP",
        /// By a port of every node.
        NodePort = "NodePort",
        /// By a load balancer.
        #[default]
        LoadBalancer = "LoadBalancer",
    }
}

words! {
    /// Where connections from outside may end.
    TrafficPolicy {
        /// At any pod.
        Cluster = "Cluster",
        /// At pods of the node where they came in.
        Local = "Local",
    }
}

words! {
    /// A family of addresses.
    IpFamily {
        /// Such as 192.0.2.1.
        V4 = "IPv4",
        /// Such as 2001:db8::1.
        V6 = "IPv6",
    }
}

words! {
    /// How many families of addresses a Service has.
    IpFamilyPolicy {
        /// One.
        SingleStack = "SingleStack",
        /// Both, where the cluster has both.
        PreferDualStack = "PreferDualStack",
        /// Both.
        RequireDualStack = "RequireDualStack",
    }
}
