//! The audit log: every request that the API server answered.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{RecursiveMode, Watcher as _};
use serde::Deserialize;
use tokio::{sync::Notify, time::timeout};

use crate::PATIENCE;

pub(crate) const FILE: &str = "audit.log";

/// The file. A request's entry is written about when its answer is.
#[derive(Clone, Debug)]
pub struct Audit {
    file: PathBuf,
}

/// One request. A watch has two: when it starts (`ResponseStarted`) and when it ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Entry {
    /// `ResponseStarted`, `ResponseComplete`, or `Panic`.
    pub stage: String,
    /// As in a role: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The client's name for itself.
    #[serde(default)]
    pub user_agent: String,
    /// Who asked.
    pub user: User,
    /// For whom, if for somebody else.
    pub impersonated_user: Option<User>,
    /// What for, unless it was no object: `/readyz`.
    pub object_ref: Option<ObjectReference>,
    /// What it was told.
    pub response_status: Option<ResponseStatus>,
}

/// Somebody.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct User {
    /// For a service account, `system:serviceaccount:NAMESPACE:NAME`.
    #[serde(default)]
    pub username: String,
    /// Also those that everybody is in.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// An object, or all of a kind. What does not apply is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ObjectReference {
    /// As in a role: `deployments`.
    pub resource: String,
    /// As in a role, behind the slash: `status`.
    pub subresource: String,
    /// As in a role: `apps`; empty for the core group.
    pub api_group: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ResponseStatus {
    /// As of HTTP.
    pub code: u16,
    /// What was said about a failure.
    pub message: String,
}

impl ObjectReference {
    /// As a role names it: `deployments`, `deployments/status`.
    #[must_use]
    pub fn in_role(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

impl Entry {
    /// The user's name; the one who was spoken for, not who spoke.
    #[must_use]
    pub fn who(&self) -> &str {
        &self.impersonated_user.as_ref().unwrap_or(&self.user).username
    }

    /// Whether it was refused because of who asked.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.response_status.as_ref().is_some_and(|status| status.code == 403)
    }
}

impl Audit {
    pub(crate) fn of(folder: &Path) -> Self {
        Self { file: folder.join(FILE) }
    }

    /// The file: one entry a line, as JSON.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// All entries so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut log = Log { file: File::open(&self.file).unwrap(), rest: Vec::new() };
        log.read()
    }

    /// Waits for an entry, which may be there already.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub async fn find(&self, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let changed = Arc::new(Notify::new());
        let changes = Arc::clone(&changed);
        let mut watcher = notify::recommended_watcher(move |_| changes.notify_one()).unwrap();
        watcher.watch(&self.file, RecursiveMode::NonRecursive).unwrap();
        let mut log = Log { file: File::open(&self.file).unwrap(), rest: Vec::new() };
        let found = async {
            loop {
                if let Some(entry) = log.read().into_iter().find(&wanted) {
                    return entry;
                }
                changed.notified().await;
            }
        };
        let path = fs::canonicalize(&self.file).unwrap();
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no such entry in {}", path.display()))
    }
}

/// The file, read as far as it goes.
struct Log {
    file: File,
    /// Of a line that is not whole yet.
    rest: Vec<u8>,
}

impl Log {
    fn read(&mut self) -> Vec<Entry> {
        self.file.read_to_end(&mut self.rest).unwrap();
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let lines: Vec<_> = self.rest.drain(..whole).collect();
        serde_json::Deserializer::from_slice(&lines).into_iter().map(Result::unwrap).collect()
    }
}
