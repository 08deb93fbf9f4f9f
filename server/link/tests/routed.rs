//! Links of many processes, with real routers, sockets and certificates between them.

#![allow(clippy::unwrap_used, reason = "what a test does not expect is a failed test")]

mod world;

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::future::BoxFuture;
use prost::bytes::Bytes;
use starling_link::{Delivery, Link as _, Outcome, Sessions, Settled};
use starling_registry::InstanceId;

use crate::world::{BOUNDS, Event, Pki, Process, Router, eventually, jid, kept, message, next, record};

const JULIET: &str = "juliet@example.com/balcony";

async fn see_each_other(one: &Process, two: &Process, routers: i64) {
    one.sees(&[two], routers).await;
    two.sees(&[one], routers).await;
}

async fn two(pki: &Pki, routers: &[&Router]) -> [Process; 2] {
    let processes = [1, 2].map(|id| Process::start(pki, id, routers));
    let count = routers.len() as i64;
    see_each_other(&processes[0], &processes[1], count).await;
    processes
}

#[tokio::test]
async fn a_kept_message_is_answered_and_then_settled_as_its_recipient_says() {
    let pki = Pki::new();
    let router = Router::start(&pki, "127.0.0.1:0").await;
    let [one, two] = two(&pki, &[&router]).await;
    let mut inbox = two.attach(JULIET);
    for acknowledged in [true, false] {
        let sent = kept(JULIET, 7);
        let tracking = sent.tracking.as_ref().unwrap();
        let records = [record(two.id, JULIET)];
        assert_eq!(one.link.deliver(&mut records.iter(), &sent), Delivery { queued: 1, full: false });
        let came = next(&mut inbox).await;
        assert_eq!((came.stanza.as_slice(), came.from.as_str()), (b"7".as_slice(), "romeo@example.com/orchard"));
        assert!(matches!(one.event().await, Event::Answered(7)));
        assert_eq!(tracking.release(), Settled::Nothing, "its entry has handed it to everybody");
        assert_eq!(tracking.holders(one.id).as_slice(), [two.id]);
        let theirs = came.tracking.as_ref().unwrap();
        let settled = if acknowledged { theirs.acknowledge() } else { theirs.release() };
        assert_eq!(settled, if acknowledged { Settled::Delivered } else { Settled::Returned });
        assert!(two.link.report(&came, acknowledged));
        if acknowledged {
            // No row says that it is in flight: nothing is to be done.
            eventually(|| tracking.is_safe()).await;
        } else {
            assert!(matches!(one.event().await, Event::Settled(7, Settled::Returned)));
        }
        eventually(|| one.metric("starling_link_queue") == 0.0).await;
    }
}

#[tokio::test]
async fn a_stanza_for_many_sessions_of_an_instance_travels_once() {
    let pki = Pki::new();
    let router = Router::start(&pki, "127.0.0.1:0").await;
    let [one, two] = two(&pki, &[&router]).await;
    let records: Vec<_> = (0..20).map(|n| record(two.id, &format!("juliet@example.com/{n}"))).collect();
    let mut inboxes: Vec<_> = records.iter().map(|record| two.attach(record.full.as_str())).collect();
    let delivery = one.link.deliver(&mut records.iter(), &message("juliet@example.com", "art thou not"));
    assert_eq!(delivery, Delivery { queued: 20, full: false });
    for inbox in &mut inboxes {
        assert_eq!(next(inbox).await.stanza, b"art thou not");
    }
    assert_eq!(one.metric("starling_link_sent_total"), 1.0);
}

#[tokio::test]
async fn what_is_sent_in_one_go_travels_in_few_frames() {
    let pki = Pki::new();
    let router = Router::start(&pki, "127.0.0.1:0").await;
    let [one, two] = two(&pki, &[&router]).await;
    let mut inbox = two.attach(JULIET);
    let to = jid(JULIET);
    for n in 0..1000 {
        let envelope = message(JULIET, &n.to_string());
        assert_eq!(one.link.send_there(two.id, Sessions::of(&[&to], &envelope), &envelope), Outcome::Queued);
    }
    for n in 0..1000 {
        assert_eq!(next(&mut inbox).await.stanza, n.to_string().as_bytes());
    }
    let frames = one.metric("starling_link_frames_total");
    assert!(frames < 30.0, "1000 stanzas went in {frames} frames");
}

#[tokio::test]
async fn a_stanza_for_a_session_that_is_not_there_is_known_where_it_came_to() {
    let pki = Pki::new();
    let router = Router::start(&pki, "127.0.0.1:0").await;
    let [one, two] = two(&pki, &[&router]).await;
    let records = [record(two.id, JULIET)];
    one.link.deliver(&mut records.iter(), &message(JULIET, "anybody there?"));
    assert!(matches!(two.event().await, Event::Undelivered(InstanceId(1), Outcome::NoSession)));
    let sent = kept(JULIET, 9);
    one.link.deliver(&mut records.iter(), &sent);
    assert!(matches!(one.event().await, Event::Answered(9)));
    assert_eq!(sent.tracking.as_ref().unwrap().release(), Settled::Returned, "nobody holds it");
}

/// Thousands of messages both ways while one router after the other goes and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_out_of_order_while_routers_restart() {
    const COUNT: usize = 20_000;
    let pki = Pki::new();
    let mut routers = vec![Router::start(&pki, "127.0.0.1:0").await, Router::start(&pki, "127.0.0.1:0").await];
    let [one, two] = two(&pki, &routers.iter().collect::<Vec<_>>()).await;
    let mut inboxes = [one.attach("romeo@example.com/orchard"), two.attach(JULIET)];
    let send = async {
        for n in 0..COUNT {
            for (sender, to, at) in [(&one, JULIET, two.id), (&two, "romeo@example.com/orchard", one.id)] {
                let records = [record(at, to)];
                let delivery = sender.link.deliver(&mut records.iter(), &message(to, &n.to_string()));
                assert_eq!(delivery.outcome(), Outcome::Queued);
            }
            if n % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let receive = async {
        let [first, second] = &mut inboxes;
        for n in 0..COUNT {
            assert_eq!(next(first).await.stanza, n.to_string().as_bytes());
            assert_eq!(next(second).await.stanza, n.to_string().as_bytes());
        }
    };
    let restart = async {
        for _ in 0..4 {
            let router = routers.remove(0);
            let address = router.address.to_string();
            router.stop().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            routers.push(Router::start(&pki, &address).await);
            // Before the other one goes, this one is there again.
            see_each_other(&one, &two, 2).await;
        }
    };
    tokio::join!(send, receive, restart);
    assert_eq!(one.metric("starling_link_failed_total") + two.metric("starling_link_failed_total"), 0.0);
    assert!(one.metric("starling_link_attachments_total") >= 6.0);
}

#[tokio::test]
async fn what_is_asked_is_answered_refused_or_not_answered_in_time() {
    let pki = Pki::new();
    let router = Router::start(&pki, "127.0.0.1:0").await;
    let [one, two] = two(&pki, &[&router]).await;
    let ask = |what: &'static str, within| -> BoxFuture<'_, _> {
        one.link.request(two.id, Bytes::from_static(what.as_bytes()), within)
    };
    let long = Duration::from_secs(20);
    assert_eq!(ask("echo", long).await, Some(Bytes::from_static(b"echo")));
    assert_eq!(ask("refuse", long).await, None);
    assert_eq!(ask("silence", Duration::from_millis(50)).await, None);
    let unanswered = ask("silence", long);
    one.link.end(two.id);
    assert_eq!(unanswered.await, None, "nobody waits for one that is no more");
    one.link.notify(InstanceId(1), Bytes::new());
    two.link.notify(one.id, Bytes::from_static(b"news"));
}

#[tokio::test]
async fn an_instance_that_died_is_absent_and_once_ended_everything_of_it_is_settled() {
    let pki = Pki::new();
    let router = Router::start(&pki, "127.0.0.1:0").await;
    let [one, two] = two(&pki, &[&router]).await;
    let mut inbox = two.attach(JULIET);
    let records = [record(two.id, JULIET)];
    let held = kept(JULIET, 1);
    one.link.deliver(&mut records.iter(), &held);
    held.tracking.as_ref().unwrap().release();
    let theirs = next(&mut inbox).await;
    assert!(matches!(one.event().await, Event::Answered(1)));
    // And one the other way, whose report finds nobody any more.
    let mut own = one.attach("romeo@example.com/orchard");
    let sent = kept("romeo@example.com/orchard", 2);
    two.link.deliver(&mut [record(one.id, "romeo@example.com/orchard")].iter(), &sent);
    let came = next(&mut own).await;
    let gone = two.id;
    drop((theirs, sent));
    two.kill().await;
    one.until(|members| !members.contains_key(&gone)).await;
    eventually(|| one.link.absent().iter().any(|(id, _)| *id == gone)).await;
    let lost = kept(JULIET, 3);
    one.link.deliver(&mut records.iter(), &lost);
    lost.tracking.as_ref().unwrap().release();
    one.link.deliver(&mut records.iter(), &message(JULIET, "not kept"));
    one.link.end(gone);
    let mut events = Vec::new();
    while events.len() < 4 {
        events.push(format!("{:?}", one.event().await));
    }
    events.sort();
    let expected = ["Answered(3)", "Failed(\"not kept\")", "Settled(1, Returned)", "Settled(3, Returned)"];
    assert_eq!(events, expected);
    assert!(one.link.is_gone(gone));
    eventually(|| one.link.absent().is_empty()).await;
    assert!(!one.link.report(&came, true), "whoever holds it settles its row");
    assert_eq!(one.link.deliver(&mut records.iter(), &kept(JULIET, 4)).outcome(), Outcome::NoSession);
    assert_eq!(one.metric("starling_link_queue"), 0.0);
    // It comes back as it was, as after a partition: no router lets it in.
    let again = Process::start(&pki, 2, &[&router]);
    let third = Process::start(&pki, 3, &[&router]);
    third.sees(&[&one], 1).await;
    assert!(third.member(&again).is_none() && again.metric("starling_link_attachments_total") == 0.0);
}

#[tokio::test]
async fn one_that_leaves_says_so_and_nobody_takes_it_for_dead() {
    let pki = Pki::new();
    let router = Router::start(&pki, "127.0.0.1:0").await;
    let [one, two] = two(&pki, &[&router]).await;
    two.link.drain();
    one.until(|members| members.get(&two.id).is_some_and(|member| member.draining)).await;
    one.link.deliver(&mut [record(two.id, JULIET)].iter(), &kept(JULIET, 5));
    assert!(two.link.leave(Duration::from_secs(20)).await);
    assert!(matches!(one.event().await, Event::Answered(5)), "it is heard out before it goes");
    one.until(|members| !members.contains_key(&two.id)).await;
    eventually(|| one.link.is_gone(two.id)).await;
    assert!(one.link.absent().is_empty());
}

#[tokio::test]
async fn a_process_of_another_authority_is_not_let_in_nor_does_it_let_itself_in() {
    let (pki, other) = (Pki::new(), Pki::new());
    let router = Router::start(&pki, "127.0.0.1:0").await;
    let [one, _two] = two(&pki, &[&router]).await;
    let stranger = Process::start(&other, 3, &[&router]);
    let late = Process::start(&pki, 4, &[&router]);
    late.sees(&[&one], 1).await;
    assert!(late.member(&stranger).is_none());
    assert_eq!(stranger.metric("starling_link_attachments_total"), 0.0);
}

#[tokio::test]
async fn a_domain_is_spoken_for_by_one_of_those_that_say_so() {
    let pki = Pki::new();
    let router = Router::start(&pki, "127.0.0.1:0").await;
    let one = Process::start(&pki, 1, &[&router]);
    assert_eq!(one.link.send_domain("rooms.example.com", &message("rooms.example.com", "")), Outcome::NoSession);
    let speaker = Speaker::start(&pki, &router);
    one.until(|members| members.values().any(|member| member.domains == ["rooms.example.com"])).await;
    let sent = message("orchard@rooms.example.com", "hello");
    assert_eq!(one.link.send_domain("rooms.example.com", &sent), Outcome::Queued);
    let mut inbox = speaker.1;
    assert_eq!(next(&mut inbox).await.stanza, b"hello");
}

struct Speaker(#[allow(dead_code, reason = "it lives as long")] Process, starling_link::Inbox);

impl Speaker {
    fn start(pki: &Pki, router: &Router) -> Self {
        let mut inbox = None;
        let process = Process::start_after(pki, 2, &[router.address.to_string()], Vec::new(), |link| {
            inbox = Some(link.local().attach_domain("rooms.example.com", BOUNDS));
        });
        Self(process, inbox.unwrap())
    }
}

/// A DNS server that answers from the files of a folder.
struct Dns(Child, tempfile::TempDir, u16);

impl Dns {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("/usr/sbin/dnsmasq")
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"])
            .args(["--listen-address=127.0.0.1", "--local-ttl=0", "--log-facility=-", "--pid-file="])
            .arg(format!("--port={port}"))
            .arg(format!("--hostsdir={}", folder.path().display()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child, folder, port)
    }

    fn add(&self, address: &str) {
        std::fs::write(self.1.path().join(address), format!("{address} routers.test\n")).unwrap();
    }

    fn server(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.2).into()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn routers_are_found_by_their_name_also_those_that_come_later() {
    let pki = Pki::new();
    let first = Router::start(&pki, "127.0.0.1:0").await;
    let port = first.address.port();
    let second = Router::start(&pki, &format!("127.0.0.2:{port}")).await;
    let dns = Dns::start();
    dns.add("127.0.0.1");
    let name = [format!("routers.test:{port}")];
    let [one, two] = [1, 2].map(|id| Process::start_with(&pki, id, &name, vec![dns.server()]));
    see_each_other(&one, &two, 1).await;
    dns.add("127.0.0.2");
    see_each_other(&one, &two, 2).await;
    first.stop().await;
    let mut inbox = two.attach(JULIET);
    one.link.deliver(&mut [record(two.id, JULIET)].iter(), &message(JULIET, "by the other one"));
    assert_eq!(next(&mut inbox).await.stanza, b"by the other one");
    drop(second);
}
