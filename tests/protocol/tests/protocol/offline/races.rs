//! The sender's server sees "offline" while the recipient logs in: neither of the two may be the last to look.

use starling_test_support::{RawClient, Server, body};
use tokio::task::yield_now;

use crate::{juliet, verona};

const BIND: &str = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                    <resource>orchard</resource></bind></iq>";
const CLOSE: &str = "</stream:stream>";

/// How many log-ins race: `STARLING_RACES`, or as many as are done in a few seconds.
fn races() -> u32 {
    std::env::var("STARLING_RACES").map_or(300, |races| races.parse().unwrap())
}

fn chat(number: u32) -> String {
    format!("<message to='romeo@localhost' type='chat' id='m{number}'><body>{number}</body></message>")
}

/// One log-in, with three messages somewhere around it: each must come without a further log-in, once and in order.
async fn race(server: &Server, sender: &mut RawClient, round: u32) {
    let managed = round % 3 == 1;
    let enable = if managed { "<enable xmlns='urn:xmpp:sm:3'/>" } else { "" };
    let mut recipient = RawClient::identified(server, "romeo@localhost", "jul13t").await;
    // Who begins, and by how much, changes from round to round.
    let (ahead, behind) = if round.is_multiple_of(2) { (round / 2 % 40, 0) } else { (0, round / 2 % 40) };
    let log_in = async {
        for _ in 0..ahead {
            yield_now().await;
        }
        recipient.send(&format!("{BIND}{enable}<presence/>")).await;
    };
    let messages = async {
        for _ in 0..behind {
            yield_now().await;
        }
        for number in round * 3..round * 3 + 3 {
            sender.send(&chat(number)).await;
            for _ in 0..round % 7 {
                yield_now().await;
            }
        }
    };
    tokio::join!(log_in, messages);
    let mut next = round * 3;
    while next < round * 3 + 3 {
        let element = recipient.element().await;
        if element.as_raw().name() == "message" {
            assert_eq!(body(&element), next.to_string(), "round {round}\n{}", recipient.transcript());
            next += 1;
        }
    }
    let ack = if managed {
        format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", recipient.counters().handled)
    } else {
        String::new()
    };
    recipient.send(&format!("{ack}{CLOSE}")).await;
    recipient.expect_gone().await;
}

/// A race that one side always wins is none.
async fn expect_both_ways(server: &Server) {
    for outcome in ["stored", "delivered"] {
        let name = format!("starling_stanzas_total{{kind=\"message\",outcome=\"{outcome}\"}}");
        let share = server.metric(&name).await / f64::from(3 * races());
        assert!(share > 0.02, "{share} {outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_racing_offline_storage_never_strands_a_message() {
    let server = verona()
        .set("c2s.limits.bytes_per_second", "off")
        .set("c2s.limits.accept_per_second", "off")
        .set("session.offline_messages", "100000")
        .start()
        .await;
    let mut sender = juliet(&server, "balcony").await;
    for round in 0..races() {
        race(&server, &mut sender, round).await;
    }
    sender.expect_nothing().await;
    expect_both_ways(&server).await;
}

/// The same where the session is there all the time, and only its presence comes and goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_racing_offline_storage_never_strands_a_message() {
    let server =
        verona().set("c2s.limits.bytes_per_second", "off").set("session.offline_messages", "100000").start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut recipient = RawClient::session(&server, "romeo@localhost", "jul13t", "orchard").await;
    for round in 0..races() {
        let comes = async {
            for _ in 0..round % 20 {
                yield_now().await;
            }
            recipient.send("<presence/>").await;
        };
        let messages = async {
            for _ in 0..round / 20 % 20 {
                yield_now().await;
            }
            for number in round * 3..round * 3 + 3 {
                sender.send(&chat(number)).await;
            }
        };
        tokio::join!(comes, messages);
        for number in round * 3..round * 3 + 3 {
            assert_eq!(body(&recipient.message().await), number.to_string(), "round {round}");
        }
        recipient.send("<presence type='unavailable'/>").await;
        recipient.expect_nothing_but_presence().await;
    }
    sender.expect_nothing().await;
    expect_both_ways(&server).await;
}

/// A session has ended, as its contacts see, and leaves what its client did not acknowledge, while more comes and the next
/// one logs in: what is older comes first, whoever is the fastest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_ended_session_leaves_comes_before_what_was_sent_later() {
    let server = verona()
        .set("c2s.limits.bytes_per_second", "off")
        .set("c2s.limits.accept_per_second", "off")
        .set("session.offline_messages", "100000")
        .start()
        .await;
    let mut sender = juliet(&server, "balcony").await;
    let mut watcher = RawClient::available(&server, "romeo@localhost", "jul13t", "watch").await;
    watcher.send("<presence><priority>-1</priority></presence>").await;
    watcher.expect_nothing_but_presence().await;
    for round in 0..races() {
        let mut first = RawClient::session(&server, "romeo@localhost", "jul13t", "garden").await;
        first.enable(false).await;
        first.become_available(0).await;
        let mut next = RawClient::session(&server, "romeo@localhost", "jul13t", "orchard").await;
        next.enable(false).await;
        for number in round * 6..round * 6 + 3 {
            sender.send(&chat(number)).await;
        }
        for number in round * 6..round * 6 + 3 {
            assert_eq!(body(&first.message().await), number.to_string(), "round {round}");
        }
        first.cut();
        watcher.until_presence("romeo@localhost/garden", Some("unavailable")).await;
        let later = async {
            for _ in 0..round % 20 {
                yield_now().await;
            }
            for number in round * 6 + 3..round * 6 + 6 {
                sender.send(&chat(number)).await;
            }
        };
        let log_in = async {
            for _ in 0..round / 20 * 5 {
                yield_now().await;
            }
            next.send("<presence/>").await;
        };
        tokio::join!(later, log_in);
        for number in round * 6..round * 6 + 6 {
            assert_eq!(body(&next.message().await), number.to_string(), "round {round}\n{}", next.transcript());
        }
        next.ack().await;
        next.close().await;
    }
}
