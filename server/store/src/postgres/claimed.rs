//! Messages that were claimed, on their way to whoever asked for them.

use std::mem;

use tracing::warn;

use super::PgStore;
use crate::{Change, Messages as _, PendingRow};

/// Dropped before it is taken, it hands its messages back: otherwise they would be in flight as long as this instance
/// lives, and nobody would have them.
pub(super) struct Claimed {
    store: PgStore,
    account: String,
    rows: Vec<PendingRow>,
}

impl Claimed {
    pub(super) const fn new(store: PgStore, account: String, rows: Vec<PendingRow>) -> Self {
        Self { store, account, rows }
    }

    /// They are the caller's.
    pub(super) fn take(mut self) -> Vec<PendingRow> {
        mem::take(&mut self.rows)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        // Where the runtime has ended, so has this instance soon.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (store, account, rows) = (self.store.clone(), mem::take(&mut self.account), mem::take(&mut self.rows));
        let hand_back = async move {
            let holders = [store.instance];
            let returned = |row: &PendingRow| Change::Returned { account: &account, id: row.id, holders: &holders };
            let changes: Vec<_> = rows.iter().map(returned).collect();
            if let Err(error) = store.commit(&changes).await {
                warn!(%error, messages = rows.len(), "Messages that nobody took stay in flight");
            }
        };
        let task = self.store.tasks.track_future(hand_back);
        drop(runtime.spawn(task));
    }
}
