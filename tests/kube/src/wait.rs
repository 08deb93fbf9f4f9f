//! Waiting: until an object is as it should be, and where nobody says when there is an answer.

use std::{
    fmt::{Debug, Display},
    sync::Mutex,
    time::Duration,
};

use kube::{Api, Resource, runtime::wait::await_condition};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{sleep, timeout};

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// So often is asked again what says nothing by itself.
const ASKED_EVERY: Duration = Duration::from_millis(50);

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

/// Asks again and again, until there is an answer: for what nobody tells of when it changes.
///
/// # Panics
/// After this time: with what was said instead of an answer.
pub async fn asked<T, E: Display>(within: Duration, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let mut last = None;
    let answered = async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(said) => last = Some(said),
            }
            sleep(ASKED_EVERY).await;
        }
    };
    let answer = timeout(within, answered).await;
    answer.unwrap_or_else(|_| match last {
        Some(said) => panic!("after {within:?}: {said}"),
        None => panic!("nothing is said for {within:?}"),
    })
}
