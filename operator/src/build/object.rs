//! Any of the objects.

use std::fmt;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::Job,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    api::{ApiResource, DynamicObject, ObjectMeta},
    core::GroupVersionKind,
};

macro_rules! objects {
    ($($kind:ident),+ $(,)?) => {
        /// Any of the objects that are made for a server.
        #[derive(Clone)]
        pub enum Object {
            $(
                #[doc = concat!("A ", stringify!($kind), ".")]
                $kind(Box<$kind>),
            )+
            /// Of a kind that a cluster may lack.
            Dynamic(Box<DynamicObject>),
        }

        impl Object {
            /// Its metadata.
            #[must_use]
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => &object.metadata,)+
                    Self::Dynamic(object) => &object.metadata,
                }
            }

            /// Where its kind is found in the API.
            #[must_use]
            pub fn resource(&self) -> ApiResource {
                match self {
                    $(Self::$kind(_) => ApiResource::erase::<$kind>(&()),)+
                    Self::Dynamic(object) => {
                        let types = object.types.clone().unwrap_or_default();
                        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
                        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind))
                    }
                }
            }

            /// As it is sent: only what is to be so.
            ///
            /// # Errors
            /// Values that JSON does not have, which none of the kinds holds.
            pub fn to_value(&self) -> serde_json::Result<serde_json::Value> {
                match self {
                    $(Self::$kind(object) => serde_json::to_value(object),)+
                    Self::Dynamic(object) => serde_json::to_value(object),
                }
            }
        }

        $(
            impl From<$kind> for Object {
                fn from(object: $kind) -> Self {
                    Self::$kind(Box::new(object))
                }
            }
        )+
    };
}

objects!(
    ConfigMap,
    Deployment,
    HorizontalPodAutoscaler,
    Job,
    NetworkPolicy,
    PodDisruptionBudget,
    Secret,
    Service,
    ServiceAccount,
    StatefulSet,
);

impl From<DynamicObject> for Object {
    fn from(object: DynamicObject) -> Self {
        Self::Dynamic(Box::new(object))
    }
}

impl Object {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }
}

/// Kind and name: contents may be secret.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource().kind, self.name())
    }
}
