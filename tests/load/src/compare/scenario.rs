//! What is measured, with what is aimed at.

/// Pairs, where there are not many.
pub(super) const FEW_PAIRS: usize = 50;
/// Messages a second, on schedule.
pub(super) const RATE: f64 = 2000.0;
/// Messages after which a client asks for an acknowledgement (XEP-0198 §4), unless it asks after each.
const ASK_EVERY: Option<u32> = Some(10);
const ASK_ALWAYS: Option<u32> = Some(1);

/// One row of the table.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) setup: Setup,
    pub(super) tls: bool,
    pub(super) load: Load,
    /// Whether the relay can do the same.
    pub(super) relay: bool,
    pub(super) aim: Option<f64>,
    /// Milliseconds: a half, and 99 of 100, are faster.
    pub(super) aim_latency: Option<(f64, f64)>,
}

/// The server that a scenario needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// As it comes: with the archive.
    Archive,
    /// Without the archive.
    NoArchive,
    /// Without the archive, for users with rosters, which are filled before anything is measured.
    Friends,
}

impl Setup {
    pub(super) const fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Archive => &[],
            Self::NoArchive | Self::Friends => &[("ARCHIVE_ENABLED", "false")],
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    LogIn,
    /// With a roster of contacts who are online.
    LogInAmongFriends,
    /// Pairs with one message under way each.
    Chat {
        many: bool,
        managed: Option<u32>,
        carbons: bool,
    },
    /// [`RATE`] messages a second.
    Scheduled {
        managed: Option<u32>,
    },
    Presence,
    /// With a roster of contacts who are online, if `friends`.
    Idle {
        managed: Option<u32>,
        friends: bool,
    },
}

const fn scenario(name: &'static str, unit: &'static str, setup: Setup, tls: bool, load: Load) -> Scenario {
    Scenario { name, unit, setup, tls, load, relay: false, aim: None, aim_latency: None }
}

impl Scenario {
    const fn aim(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }

    const fn latency(mut self, p50: f64, p99: f64) -> Self {
        self.aim_latency = Some((p50, p99));
        self
    }

    const fn beside_the_relay(mut self) -> Self {
        self.relay = true;
        self
    }
}

const PER_LOG_IN: &str = "ms CPU";
const PER_MESSAGE: &str = "us CPU/message";
const PER_DELIVERY: &str = "us CPU/delivery";
const PER_SESSION: &str = "KiB PSS";
const PLAIN: bool = false;
const TLS: bool = true;

const fn chat(many: bool, managed: Option<u32>) -> Load {
    Load::Chat { many, managed, carbons: false }
}

const CARBONS: Load = Load::Chat { many: false, managed: None, carbons: true };

const fn idle(managed: Option<u32>, friends: bool) -> Load {
    Load::Idle { managed, friends }
}

/// In the order in which they run: as few servers as possible are started.
#[rustfmt::skip]
pub(super) const SCENARIOS: &[Scenario] = &{
    use Setup::{Archive, Friends, NoArchive};
    [
        scenario("first log-in, plain", PER_LOG_IN, Archive, PLAIN, Load::LogIn).aim(0.25).beside_the_relay(),
        scenario("log-in, plain", PER_LOG_IN, Archive, PLAIN, Load::LogIn).aim(0.25).beside_the_relay(),
        scenario("log-in, STARTTLS", PER_LOG_IN, Archive, TLS, Load::LogIn).aim(0.45).beside_the_relay(),
        scenario("archive, 50 pairs, plain", PER_MESSAGE, Archive, PLAIN, chat(false, None)).aim(40.0).beside_the_relay(),
        scenario("archive, XEP-0198, 50 pairs, plain", PER_MESSAGE, Archive, PLAIN, chat(false, ASK_EVERY)),
        scenario("archive, 500 pairs, plain", PER_MESSAGE, Archive, PLAIN, chat(true, None)).beside_the_relay(),
        scenario("archive, 2,000/s, plain", PER_MESSAGE, Archive, PLAIN, Load::Scheduled { managed: None }).beside_the_relay(),
        scenario("chat, 50 pairs, plain", PER_MESSAGE, NoArchive, PLAIN, chat(false, None)).aim(9.5).beside_the_relay(),
        scenario("chat, 50 pairs, TLS", PER_MESSAGE, NoArchive, TLS, chat(false, None)).aim(10.5).beside_the_relay(),
        scenario("chat, 500 pairs, plain", PER_MESSAGE, NoArchive, PLAIN, chat(true, None)).aim(12.0).beside_the_relay(),
        scenario("chat, 500 pairs, TLS", PER_MESSAGE, NoArchive, TLS, chat(true, None)).aim(15.0).beside_the_relay(),
        scenario("2,000/s, plain", PER_MESSAGE, NoArchive, PLAIN, Load::Scheduled { managed: None })
            .aim(20.0).latency(0.1, 0.25).beside_the_relay(),
        scenario("2,000/s, TLS", PER_MESSAGE, NoArchive, TLS, Load::Scheduled { managed: None }).beside_the_relay(),
        scenario("2,000/s, XEP-0198, plain", PER_MESSAGE, NoArchive, PLAIN, Load::Scheduled { managed: ASK_EVERY }),
        scenario("XEP-0198, 50 pairs, plain", PER_MESSAGE, NoArchive, PLAIN, chat(false, ASK_EVERY)).aim(16.0),
        scenario("XEP-0198, 50 pairs, TLS", PER_MESSAGE, NoArchive, TLS, chat(false, ASK_EVERY)),
        scenario("XEP-0198, 500 pairs, plain", PER_MESSAGE, NoArchive, PLAIN, chat(true, ASK_EVERY)),
        scenario("XEP-0198, <r/> each, 50 pairs, plain", PER_MESSAGE, NoArchive, PLAIN, chat(false, ASK_ALWAYS)).aim(20.0),
        scenario("carbons, 50 pairs, plain", PER_DELIVERY, NoArchive, PLAIN, CARBONS).aim(8.0),
        scenario("carbons, 50 pairs, TLS", PER_DELIVERY, NoArchive, TLS, CARBONS),
        scenario("presence, plain", PER_DELIVERY, Friends, PLAIN, Load::Presence).aim(6.0),
        scenario("presence, TLS", PER_DELIVERY, Friends, TLS, Load::Presence),
        scenario("log-in, roster and presence, plain", PER_LOG_IN, Friends, PLAIN, Load::LogInAmongFriends),
        scenario("idle session, plain", PER_SESSION, NoArchive, PLAIN, idle(None, false)).aim(8.0).beside_the_relay(),
        scenario("idle session, TLS", PER_SESSION, NoArchive, TLS, idle(None, false)).aim(18.0).beside_the_relay(),
        scenario("idle session, XEP-0198, plain", PER_SESSION, NoArchive, PLAIN, idle(ASK_EVERY, false)),
        scenario("idle session, roster, plain", PER_SESSION, Friends, PLAIN, idle(None, true)),
        scenario("idle session, roster, XEP-0198", PER_SESSION, Friends, PLAIN, idle(ASK_EVERY, true)),
    ]
};
