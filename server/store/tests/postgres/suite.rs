//! The rules of every store.

use starling_store::{Store, suite};

use super::setting::Setting;

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_rules_of_every_store() {
    let setting = Setting::new().await;
    let store = setting.open(suite::INSTANCE).await;
    suite::run(&store).await;
    setting.assert_whole().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_rules_of_many_instances() {
    let setting = Setting::new().await;
    let numbers = [suite::INSTANCE, 7, u64::MAX];
    let [a, b, c] = [setting.open(numbers[0]).await, setting.open(numbers[1]).await, setting.open(numbers[2]).await];
    suite::run_many([(&a, numbers[0]), (&b, numbers[1]), (&c, numbers[2])]).await;
    setting.assert_whole().await;
}
