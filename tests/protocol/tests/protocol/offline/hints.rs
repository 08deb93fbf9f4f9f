//! XEP-0160 §3 and XEP-0334: what the content of a message says about keeping it.

use super::{bodies, chat, juliet, messages_at_log_in, to_romeo};
use crate::{romeo, verona};

const HINTS: &str = "xmlns='urn:xmpp:hints'";
const STATE: &str = "xmlns='http://jabber.org/protocol/chatstates'";

/// Whether a message with this inside waits for somebody offline, and whether it is in the archives afterwards.
async fn kept(inner: &str) -> (bool, bool) {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    sender.send(&to_romeo(inner)).await;
    sender.send(&chat("last")).await;
    // The first may come back as an error; that is another test's.
    sender.until_acked().await;
    let mut recipient = romeo(&server, "orchard").await;
    let came = bodies(&messages_at_log_in(&server, &mut recipient, 0).await);
    assert_eq!(came.last().map(String::as_str), Some("last"));
    let rows = server.until_rows("romeo@localhost", super::settled).await;
    (came.len() == 2, rows.len() == 2)
}

#[tokio::test]
async fn xep0160_3_chat_states_alone_do_not_wait() {
    for state in ["active", "composing", "paused", "inactive", "gone"] {
        assert_eq!(kept(&format!("<{state} {STATE}/>")).await, (false, false), "{state}");
    }
    let thread = format!("<composing {STATE}/><thread>t</thread>");
    assert_eq!(kept(&thread).await, (false, false), "a thread is no content");
}

#[tokio::test]
async fn xep0160_3_with_a_body_they_do() {
    assert_eq!(kept(&format!("<body>hi</body><active {STATE}/>")).await, (true, true));
}

#[tokio::test]
async fn xep0184_5_receipts_wait() {
    let receipt = "<received xmlns='urn:xmpp:receipts' id='1'/>";
    assert!(kept(receipt).await.0);
}

#[tokio::test]
async fn xep0334_4_hints() {
    // Message, whether it waits, whether it is archived.
    let table = [
        (format!("<body>hi</body><no-store {HINTS}/>"), false, false),
        (format!("<body>hi</body><no-permanent-store {HINTS}/>"), true, false),
        (format!("<body>hi</body><no-copy {HINTS}/>"), true, true),
        (format!("<composing {STATE}/><store {HINTS}/>"), true, true),
        (format!("<body>hi</body><store {HINTS}/>"), true, true),
        (format!("<body>hi</body><store {HINTS}/><no-store {HINTS}/>"), false, false),
    ];
    for (inner, waits, archived) in table {
        assert_eq!(kept(&inner).await, (waits, archived), "{inner}");
    }
}

/// XEP-0334 §4.2: what must not be stored is still delivered to who is there.
#[tokio::test]
async fn xep0334_4_2_no_store_is_delivered_to_who_is_there() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.become_available(0).await;
    sender.send(&to_romeo(&format!("<body>secret</body><no-store {HINTS}/>"))).await;
    assert_eq!(starling_test_support::body(&recipient.message().await), "secret");
    sender.until_acked().await;
    for account in ["romeo@localhost", "juliet@localhost"] {
        assert!(server.rows(account).await.is_empty());
    }
}
