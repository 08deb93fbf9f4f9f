//! SIGTERM: RFC 6120 §4.9.3.20, system-shutdown.

use std::time::{Duration, Instant};

use starling_test_support::{RawClient, Received};

use crate::{both, verona};

#[tokio::test]
async fn rfc6120_4_9_3_20_every_stream_is_told_and_the_program_ends_with_0() {
    let mut server = verona().start().await;
    let (juliet, romeo) = both(&server).await;
    let mut opened = RawClient::plain(&server).await;
    opened.open("localhost").await;
    let mut under_tls = RawClient::direct_tls(&server).await;
    under_tls.log_in("juliet@localhost", "r0m30", "tls").await;
    let mut silent = RawClient::plain(&server).await;
    // Whether it is accepted shows only by an answer.
    silent.send("<stream:stream").await;
    let mut seen = RawClient::plain(&server).await;
    seen.open("localhost").await;
    server.terminate();
    for mut client in [juliet, romeo, opened, under_tls, seen] {
        client.expect_stream_error("system-shutdown").await;
    }
    silent.header().await;
    silent.expect_stream_error("system-shutdown").await;
    assert_eq!(server.wait().await.code(), Some(0), "{}", server.logs());
}

/// What was taken from a sender before the stop is written to its recipient before the error.
#[tokio::test]
async fn messages_that_were_taken_are_still_written() {
    let mut server =
        verona().set("c2s.limits.bytes_per_second", "off").set("c2s.limits.queue_bytes", "16000000").start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    let text = "x".repeat(20_000);
    // Far more than the sockets hold: most of it waits in the server when the stop comes.
    for number in 0..500 {
        juliet
            .send(&format!("<message to='romeo@localhost/orchard' id='{number}'><body>{text}</body></message>"))
            .await;
    }
    juliet.expect_nothing().await;
    server.terminate();
    let mut taken = 0;
    loop {
        match romeo.next().await {
            Received::Element(element) if element.as_raw().name() == "message" => {
                assert_eq!(element.as_raw().attribute("id").as_deref(), Some(taken.to_string().as_str()));
                taken += 1;
            }
            Received::Element(element) => {
                assert!(element.as_raw().as_str().contains("<system-shutdown"), "{}", element.as_raw().as_str());
                break;
            }
            other => panic!("{other:?} after {taken} messages"),
        }
    }
    assert_eq!(taken, 500);
    romeo.expect_close().await;
    juliet.expect_stream_error("system-shutdown").await;
    assert_eq!(server.wait().await.code(), Some(0), "{}", server.logs());
}

/// They have the time for their last words, or what the stop leaves of it; then the exit code says that it was cut short.
#[tokio::test]
async fn clients_that_do_not_close_their_side_do_not_hold_the_stop_up() {
    for grace in ["10", "1"] {
        let mut server = verona().set("c2s.stop_grace", grace).start().await;
        let (mut juliet, romeo) = both(&server).await;
        let began = Instant::now();
        server.terminate();
        while !matches!(juliet.next().await, Received::Close) {}
        assert_eq!(server.wait().await.code(), Some(0), "{}", server.logs());
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        drop((juliet, romeo));
    }
}

#[tokio::test]
async fn after_a_stop_accounts_are_still_there() {
    let mut server = verona().start().await;
    server.terminate();
    assert_eq!(server.wait().await.code(), Some(0), "{}", server.logs());
    let listed = server.run(&["user", "list"], "");
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "juliet@localhost\nromeo@localhost\n");
}
