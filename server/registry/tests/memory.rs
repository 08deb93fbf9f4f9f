//! The registry in memory keeps the rules of every registry.

use starling_registry::{InstanceId, MemoryRegistry, suite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_rules_of_every_registry() {
    let registry = MemoryRegistry::new();
    suite::run(suite::Subject { registry: &registry, instance: InstanceId(1) }).await;
}
