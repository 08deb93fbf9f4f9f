//! PostgreSQL keeps the rules of every store, and its own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod postgres {
    pub(crate) mod setting;
}

use starling_store::{PgStore, Store, suite};

use self::postgres::setting::Setting;

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_rules_of_every_store() {
    let setting = Setting::new().await;
    let store = setting.open(suite::INSTANCE).await;
    suite::run(&store).await;
    store.close().await;
}
