//! The servers do what the tests that use them believe.

use starling_backends::redis::{ADMIN_PASSWORD, Cluster, Options, Redis, Watched};

#[tokio::test]
async fn a_server_is_ready_and_starts_again_empty_on_its_port() {
    let mut server = Redis::start(Options::default()).await;
    let address = server.address();
    assert_eq!(server.command(&["SET", "a", "1"]).await, "OK");
    server.pause().await;
    server.resume().await;
    assert_eq!(server.command(&["GET", "a"]).await, "1");
    server.kill9().await;
    server.start_again().await;
    assert_eq!(server.address(), address);
    assert_eq!(server.command(&["GET", "a"]).await, "");
}

#[tokio::test]
async fn with_a_log_it_knows_again_what_it_knew() {
    let mut server = Redis::start(Options { append_only: true, ..Options::default() }).await;
    server.command(&["SET", "a", "1"]).await;
    server.kill9().await;
    server.start_again().await;
    assert_eq!(server.command(&["GET", "a"]).await, "1");
    server.stop().await;
}

#[tokio::test]
async fn it_has_tls_and_users() {
    let users = vec!["starling on >secret ~starling:* +@all".to_owned()];
    let server = Redis::start(Options { tls: true, users, ..Options::default() }).await;
    assert_eq!(server.command(&["ACL", "WHOAMI"]).await, "default");
    assert!(std::fs::read_to_string(server.ca()).unwrap().contains("BEGIN CERTIFICATE"));
    // Who lists processes sees no password.
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!line.contains(ADMIN_PASSWORD), "{line}");
    }
}

#[tokio::test]
async fn sentinels_make_the_replica_the_primary() {
    let mut watched = Watched::start().await;
    let old = watched.primary().port();
    watched.primary().command(&["SET", "a", "1"]).await;
    watched.kill_primary().await;
    watched.failed_over().await;
    assert_ne!(watched.primary().port(), old);
    assert_eq!(watched.primary().command(&["SET", "a", "2"]).await, "OK");
}

#[tokio::test]
async fn a_cluster_serves_all_slots_and_fails_over() {
    let mut cluster = Cluster::start(true).await;
    let primary = cluster.primary_of("a").await;
    assert_eq!(cluster.command(&["SET", "a", "1"]).await, "OK");
    let slot = cluster.node(0).command(&["CLUSTER", "KEYSLOT", "a"]).await.parse().unwrap();
    cluster.move_slot(slot, primary, (primary + 1) % 3).await;
    assert_eq!(cluster.command(&["GET", "a"]).await, "1");
    cluster.fail_over((primary + 1) % 3).await;
    assert_eq!(cluster.node((primary + 1) % 3 + 3).command(&["GET", "a"]).await, "1");
}
