//! Two people who talk all the time, and notice whatever is lost, doubled or out of order.
//!
//! ```text
//!   one ── 0, 1, 2, … ──► other      each says the next number when the other is not too far behind, and expects the next
//!       ◄── 0, 1, 2, … ──            of the other; a connection that ends is resumed (XEP-0198) at another pod
//! ```

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

use starling_kube_tests::{Endpoints, PATIENCE};
use starling_test_support::{RawClient, Received, Versions, body};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

pub(crate) const DOMAIN: &str = "example.com";
pub(crate) const ADMIN: &str = "admin@example.com";
pub(crate) const BOB: &str = "bob@example.com";
/// Bob's. The administrator's is made by the operator.
pub(crate) const PASSWORD: &str = "b0b's password";
/// The Service that clients connect to.
const SERVICE: &str = "chat-c2s";
const SM: &str = "urn:xmpp:sm:3";
const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// How often somebody asks for a stream again before giving up.
const TRIES: u32 = 20;
/// How many numbers may be on their way to the same one.
const AT_ONCE: u32 = 5;
/// They speak so often at most.
const PACE: Duration = Duration::from_millis(20);
/// How much has to be heard before they count as talking on.
const MORE: u32 = 10;

/// TLS, and nothing said behind it.
pub(crate) async fn connect(address: Ipv4Addr) -> RawClient {
    let mut client = RawClient::connect((address, 5222).into()).await;
    client.open(DOMAIN).await;
    client.start_tls(Versions::Tls13).await;
    client
}

/// Somebody who is logged in, with a stream that can be resumed.
pub(crate) struct Person {
    pub(crate) client: RawClient,
    address: Ipv4Addr,
    /// What was said and is not acknowledged.
    waits: VecDeque<u32>,
    /// Of what was said on this stream, how much is.
    acknowledged: u32,
    said: u32,
    heard: u32,
    connections: u32,
}

impl Person {
    pub(crate) async fn log_in(address: Ipv4Addr, jid: &str, password: &str) -> Self {
        let mut client = connect(address).await;
        client.log_in(jid, password, "here").await;
        client.become_available(0).await;
        assert!(client.enable(true).await.id.is_some(), "{}", client.transcript());
        Self { client, address, waits: VecDeque::new(), acknowledged: 0, said: 0, heard: 0, connections: 1 }
    }

    async fn say(&mut self, to: &str) {
        let number = self.said;
        self.said += 1;
        self.waits.push_back(number);
        self.send(to, number).await;
    }

    /// A connection that has ended is noticed by what comes from it.
    async fn send(&mut self, to: &str, number: u32) {
        let message = format!("<message to='{to}' type='chat' id='n{number}'><body>{number}</body></message>");
        self.client.try_send(message.as_bytes()).await.ok();
    }

    fn forget_acknowledged(&mut self) {
        let acked = self.client.counters().acked;
        self.waits.drain(..(acked - self.acknowledged) as usize);
        self.acknowledged = acked;
    }

    /// What came. `endpoints`: where clients are sent to by now.
    async fn take(&mut self, received: Received, other: &str, endpoints: &Endpoints) {
        match received {
            Received::Element(element) => match (element.as_raw().namespace(), element.as_raw().name()) {
                (SM, "r") => {
                    let answer = format!("<a xmlns='{SM}' h='{}'/>", self.client.counters().handled);
                    self.client.try_send(answer.as_bytes()).await.ok();
                }
                (SM, "a") => self.forget_acknowledged(),
                (_, "message") => {
                    assert_eq!(body(&element), self.heard.to_string(), "{}", self.client.transcript());
                    self.heard += 1;
                }
                _ => {}
            },
            Received::Open(_) | Received::Close => {}
            Received::End(_) => self.resume(other, endpoints).await,
        }
    }

    /// Goes to another pod; and where that cannot say yet what has become of the stream, once more.
    async fn resume(&mut self, other: &str, endpoints: &Endpoints) {
        for _ in 0..TRIES {
            self.client.cut();
            let ready = endpoints.ready(SERVICE).await;
            for address in ready.into_iter().filter(|address| *address != self.address) {
                // One that ends just now is no place to go to.
                if TcpStream::connect((address, 5222)).await.is_err() {
                    continue;
                }
                self.client.reconnect_by(connect(address).await).await;
                if !self.is_resumed().await {
                    break;
                }
                self.forget_acknowledged();
                (self.address, self.connections) = (address, self.connections + 1);
                for number in self.waits.clone() {
                    self.send(other, number).await;
                }
                return;
            }
        }
        panic!("nowhere to go to from {}\n{}", self.address, self.client.transcript());
    }

    /// Asks for the stream. `false`: not now.
    async fn is_resumed(&mut self) -> bool {
        let (id, handled) = (self.client.resumption_id(), self.client.counters().handled);
        let resume = format!("<resume xmlns='{SM}' previd='{id}' h='{handled}'/>");
        self.client.send(&resume).await;
        match self.client.next().await {
            Received::Element(element) if element.as_raw().is("resumed", SM) => true,
            Received::Element(element) if element.as_raw().child("resource-constraint", STREAM_ERRORS).is_some() => {
                false
            }
            _ => panic!("it is not resumed\n{}", self.client.transcript()),
        }
    }
}

/// What two people have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    heard: [u32; 2],
    connections: [u32; 2],
}

/// Two people who talk.
pub(crate) struct Conversation {
    progress: watch::Receiver<Progress>,
    stop: CancellationToken,
    task: JoinHandle<[Person; 2]>,
}

impl Conversation {
    /// They begin. `endpoints`: where clients are sent to, whenever somebody asks.
    pub(crate) fn begin(people: [Person; 2], endpoints: Endpoints) -> Self {
        let (says, progress) = watch::channel(progress(&people));
        let stop = CancellationToken::new();
        let task = tokio::spawn(talk(people, endpoints, says, stop.clone()));
        Self { progress, stop, task }
    }

    /// Waits until both have heard more.
    pub(crate) async fn goes_on(&mut self) {
        let before = self.progress.borrow_and_update().heard;
        self.until(|now| now.heard.iter().zip(before).all(|(heard, before)| *heard >= before + MORE)).await;
    }

    /// How often they have connected.
    pub(crate) fn connections(&self) -> [u32; 2] {
        self.progress.borrow().connections
    }

    /// Waits until both have connected more often than that.
    pub(crate) async fn reconnected(&mut self, before: [u32; 2]) {
        self.until(|now| now.connections.iter().zip(before).all(|(connections, before)| *connections > before)).await;
    }

    async fn until(&mut self, wanted: impl Fn(&Progress) -> bool) {
        let reached = timeout(PATIENCE, self.progress.wait_for(|now| wanted(now))).await;
        match reached.map(|reached| reached.map(drop)) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                let ended = (&mut self.task).await;
                std::panic::resume_unwind(ended.err().expect("they end by a failure alone").into_panic());
            }
            Err(_) => panic!("they do not go on: {:?}", *self.progress.borrow()),
        }
    }

    /// They end their streams.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        for person in self.task.await.unwrap() {
            person.client.close().await;
        }
    }
}

fn progress([one, two]: &[Person; 2]) -> Progress {
    Progress { heard: [one.heard, two.heard], connections: [one.connections, two.connections] }
}

async fn talk(
    mut people: [Person; 2],
    endpoints: Endpoints,
    says: watch::Sender<Progress>,
    stop: CancellationToken,
) -> [Person; 2] {
    let names = people.each_ref().map(|person| person.client.full().to_owned());
    let mut pace = interval(PACE);
    loop {
        let [one, two] = &mut people;
        // What is read in part stays with the client.
        let (who, received) = tokio::select! {
            () = stop.cancelled() => return people,
            received = one.client.receive() => (0, received),
            received = two.client.receive() => (1, received),
            _ = pace.tick() => {
                if one.said < two.heard + AT_ONCE {
                    one.say(&names[1]).await;
                }
                if two.said < one.heard + AT_ONCE {
                    two.say(&names[0]).await;
                }
                continue;
            }
        };
        people[who].take(received, &names[1 - who], &endpoints).await;
        says.send_replace(progress(&people));
    }
}
