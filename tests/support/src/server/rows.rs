//! An account's rows in the server's database, read beside the server.

use std::sync::Arc;

use starling_store::{SqliteStore, Store};
use tokio::{task::yield_now, time::timeout};

use super::Server;
use crate::{PATIENCE, Row};

impl Server {
    /// All rows of an account, in the order of their ids. The server may run.
    pub async fn rows(&self, account: &str) -> Vec<Row> {
        let store = self.database().await;
        let rows = read(&store, account).await;
        store.retire().await.ok();
        store.close().await;
        rows
    }

    /// Waits until the rows of an account are as `wanted` says: they are written in groups, and some of them after the
    /// message was delivered.
    pub async fn until_rows(&self, account: &str, wanted: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        let store = self.database().await;
        let polled = async {
            loop {
                let rows = read(&store, account).await;
                if wanted(&rows) {
                    return rows;
                }
                yield_now().await;
            }
        };
        let found = timeout(PATIENCE, polled).await;
        let Ok(rows) = found else {
            let rows = read(&store, account).await;
            let shown: Vec<_> = rows.iter().map(|row| (row.id, row.direction, row.state, row.archived)).collect();
            panic!("the rows of {account} are not as wanted: {} rows, {shown:?}", rows.len());
        };
        store.retire().await.ok();
        store.close().await;
        rows
    }

    async fn database(&self) -> Arc<dyn Store> {
        match &self.cluster {
            None => Arc::new(SqliteStore::open(&self.instances[0].data().join("starling.db")).await.unwrap()),
            Some(cluster) => Arc::new(cluster.store().await),
        }
    }
}

async fn read(store: &Arc<dyn Store>, account: &str) -> Vec<Row> {
    const PAGE: u32 = 1000;
    let mut rows = Vec::new();
    loop {
        let page = store.rows(account, rows.last().map(|row: &Row| row.id), PAGE).await.unwrap();
        let is_last = page.len() < PAGE as usize;
        rows.extend(page);
        if is_last {
            return rows;
        }
    }
}
