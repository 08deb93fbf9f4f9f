//! Waiting until an object is as it should be.

use std::{fmt::Debug, sync::Mutex, time::Duration};

use kube::{Api, Resource, runtime::wait::await_condition};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds for the object of this name, which is `None` while it is not there, and returns it.
///
/// # Panics
/// After [`PATIENCE`]: with the object as it was last.
pub async fn until<K>(api: &Api<K>, name: &str, condition: impl Fn(Option<&K>) -> bool) -> Option<K>
where
    K: Clone + Debug + Send + DeserializeOwned + Serialize + Resource + 'static,
{
    let last = Mutex::new(None);
    let holds = |object: Option<&K>| {
        *last.lock().unwrap() = object.cloned();
        condition(object)
    };
    match timeout(PATIENCE, await_condition(api.clone(), name, holds)).await {
        Ok(found) => found.unwrap_or_else(|error| panic!("{name}: {error}")),
        Err(_) => {
            let mut last = last.lock().unwrap().take();
            // Longer than all the rest, and of use to nobody.
            last.iter_mut().for_each(|object| object.meta_mut().managed_fields = None);
            let last = serde_json::to_string_pretty(&last).unwrap();
            panic!("{} is not as expected after {PATIENCE:?}: {last}", api.resource_url())
        }
    }
}
