//! A user's client: connects, chats, goes away, comes again.

mod talk;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use crate::{
    journal::{End, Event, HeardBy, Journal, Message},
    plan::{Habits, Leaving, Plan},
    random::Random,
    session::{Managed, Outgoing},
    wire::{Broken, DOMAIN, SM, Wire, condition},
};

/// What all clients are to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Chat, as the plan has it.
    Chat,
    /// Send nothing new; be connected, get everything acknowledged, and acknowledge everything.
    Settle,
    /// Log out for good.
    Finish,
}

/// Until a client that could not connect tries again.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(300)];
/// The resource of each user.
const RESOURCE: &str = "chaos";

/// What a client shares with those that drive it.
pub struct Shared {
    /// What it does.
    pub plan: Plan,
    /// What all write to.
    pub journal: Journal,
    /// Where servers are: a client connects to any of them.
    pub addresses: Vec<SocketAddr>,
    /// Whether each user's client is connected, with nothing left to be acknowledged on either side.
    pub at_rest: Vec<AtomicBool>,
}

/// A user.
pub struct User {
    number: u32,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    habits: Habits,
    managed: Option<Managed>,
    /// To be sent again, before anything new.
    again: VecDeque<Outgoing>,
    /// Came back as errors: not to be sent again.
    returned: Vec<Message>,
    sequences: HashMap<u32, u32>,
    messages: u32,
    /// Presence has come back to the resource that was bound last.
    available: bool,
    /// A connection that is not read any more, until there is another one.
    hung: Option<Wire>,
    /// Chooses where to connect to.
    doors: Random,
}

impl User {
    /// One that has not connected yet.
    #[must_use]
    pub fn new(number: u32, shared: Arc<Shared>, phase: watch::Receiver<Phase>) -> Self {
        let habits = shared.plan.habits(number);
        let doors = Random::of(&[shared.plan.seed, 10, u64::from(number)]);
        Self {
            number,
            shared,
            phase,
            habits,
            managed: None,
            again: VecDeque::new(),
            returned: Vec::new(),
            sequences: HashMap::new(),
            messages: 0,
            available: false,
            hung: None,
            doors,
        }
    }

    /// Lives until all is finished. Ends by itself: whoever leads sets [`Phase::Finish`] at last.
    pub async fn run(mut self) {
        let mut random = Random::of(&[self.shared.plan.seed, 9, u64::from(self.number)]);
        if self.shared.plan.is_asleep(self.number) {
            // An error: nobody leads any more, and it ends.
            self.phase.wait_for(|phase| *phase > Phase::Chat).await.map(drop).unwrap_or_default();
        }
        // Not all in one moment.
        self.pause(random.between(Duration::ZERO, Duration::from_secs(1))).await;
        let mut stays = 0;
        let mut trouble = String::from("never connected");
        while *self.phase.borrow() < Phase::Finish {
            let stay = self.shared.plan.stay(self.number, stays);
            let (mut wire, first) = match self.connect().await {
                Ok(connected) => connected,
                Err(broken) => {
                    trouble = self.tell(broken);
                    self.pause(random.between(RETRY[0], RETRY[1])).await;
                    continue;
                }
            };
            self.hung = None;
            stays += 1;
            let end = self.talk(&mut wire, stay, first).await;
            self.set_at_rest(false);
            let away = match end {
                Ok(leaving) => {
                    let end = match leaving {
                        Leaving::Cut => End::Cut,
                        Leaving::Hang => End::Hung,
                        Leaving::LogOut => End::Closed,
                    };
                    self.note(Event::Gone(end));
                    if leaving == Leaving::LogOut {
                        self.session_is_over();
                    }
                    if leaving == Leaving::Hang {
                        self.hung = Some(wire);
                    }
                    stay.away
                }
                Err(broken) => {
                    trouble = self.tell(broken);
                    self.note(Event::Gone(End::Broken(trouble.clone())));
                    random.between(RETRY[0], RETRY[1])
                }
            };
            if *self.phase.borrow() == Phase::Chat {
                self.pause(away).await;
            }
        }
        let left = self.managed.as_ref().map_or(0, Managed::uncounted) + self.again.len();
        let stuck = if left > 0 {
            Some(format!("{left} stanzas without acknowledgement; last trouble: {trouble}"))
        } else if stays == 0 {
            Some(trouble)
        } else {
            None
        };
        self.note(Event::Settled { stuck });
    }

    fn note(&self, event: Event) {
        self.shared.journal.note(Some(self.number), event);
    }

    fn set_at_rest(&self, at_rest: bool) {
        if let Some(mine) = self.shared.at_rest.get(self.number as usize) {
            mine.store(at_rest, Ordering::Relaxed);
        }
    }

    /// What no fault excuses goes into the journal.
    fn tell(&self, broken: Broken) -> String {
        if let Broken::Wrong(what) = &broken {
            self.note(Event::Trouble(what.clone()));
        }
        broken.to_string()
    }

    /// Waits, not over the end of a phase.
    async fn pause(&mut self, duration: Duration) {
        let phase = *self.phase.borrow();
        tokio::select! {
            () = sleep(duration) => {}
            // An error: nobody leads any more, and it ends.
            _ = self.phase.wait_for(|now| *now != phase) => {}
        }
    }

    /// Logs in, and resumes the session, or begins one. What is to be sent first comes with it.
    async fn connect(&mut self) -> Result<(Wire, String), Broken> {
        let (number, shared) = (self.number, Arc::clone(&self.shared));
        let (user, password) = (format!("user{number}"), format!("password{number}"));
        let door = self.doors.below(u32::try_from(shared.addresses.len()).unwrap_or(u32::MAX));
        let address = *shared.addresses.get(door as usize).ok_or_else(|| Broken::Error("no address".to_owned()))?;
        let (mut wire, features) = Wire::log_in(address, &user, &password).await?;
        let offered = features.as_raw().child("sm", SM).is_some();
        if let Some(managed) = &mut self.managed {
            let (session, h) = (managed.session, managed.received);
            if let Some(id) = managed.id.clone() {
                let answer = wire.ask(&format!("<resume xmlns='{SM}' h='{h}' previd='{id}'/>")).await?;
                let raw = answer.as_raw();
                let heard = raw.attribute("h").and_then(|h| h.parse().ok());
                if raw.is("resumed", SM) {
                    let h = heard.ok_or_else(|| Broken::Wrong("<resumed/> without h".to_owned()))?;
                    shared.journal.note(Some(number), Event::Resumed { session });
                    managed.told = managed.received;
                    shared.journal.note(Some(number), Event::Counted { session, h: managed.told });
                    managed.hear(number, &shared.journal, h, HeardBy::Resumed);
                    return Ok((wire, managed.replay(number, &shared.journal)));
                }
                if !raw.is("failed", SM) {
                    return Err(Broken::Wrong(format!("<{}/> for <resume/>", raw.name())));
                }
                let condition = condition(&answer, "urn:ietf:params:xml:ns:xmpp-stanzas");
                shared.journal.note(Some(number), Event::Refused { session, condition });
                if let Some(h) = heard {
                    managed.hear(number, &shared.journal, h, HeardBy::Failed);
                }
            }
            self.session_is_over();
        }
        wire.bind(RESOURCE).await?;
        self.available = false;
        let mut first = String::new();
        if self.habits.sm && !offered {
            return Err(Broken::Wrong("XEP-0198 is not offered".to_owned()));
        }
        if self.habits.sm {
            let max = self.habits.max.map(|max| format!(" max='{max}'")).unwrap_or_default();
            wire.send(&format!("<enable xmlns='{SM}' resume='true'{max}/>")).await?;
            let mut answer = wire.answer().await?;
            // What is sent to the full JID may come as soon as that is bound. It is not counted (§4).
            while answer.as_raw().namespace() != SM {
                if answer.as_raw().name() == "message" {
                    self.take_message(&answer);
                }
                answer = wire.answer().await?;
            }
            let raw = answer.as_raw();
            if !raw.is("enabled", SM) {
                return Err(Broken::Error(format!("enable: <{}/>", raw.name())));
            }
            let resumable = matches!(raw.attribute("resume").as_deref(), Some("true" | "1"));
            let id = raw.attribute("id").map(std::borrow::Cow::into_owned).filter(|_| resumable);
            let session = shared.journal.session();
            self.note(Event::Bound { session: Some(session) });
            self.managed = Some(Managed::new(session, id));
        } else {
            self.note(Event::Bound { session: None });
        }
        self.send_presence(&mut first);
        while let Some(outgoing) = self.again.pop_front() {
            if !self.returned.contains(&outgoing.message) {
                self.send(outgoing, &mut first);
            }
        }
        Ok((wire, first))
    }

    /// What the session leaves without acknowledgement is to be sent again, before all else.
    fn session_is_over(&mut self) {
        if let Some(managed) = self.managed.take() {
            for outgoing in managed.left().collect::<Vec<_>>().into_iter().rev() {
                self.again.push_front(outgoing);
            }
        }
    }

    fn send_presence(&mut self, out: &mut String) {
        const PRESENCE: &str = "<presence><priority>1</priority></presence>";
        if let Some(managed) = &mut self.managed {
            managed.say(self.number, &self.shared.journal, PRESENCE.to_owned());
        }
        out.push_str(PRESENCE);
    }

    fn send(&mut self, outgoing: Outgoing, out: &mut String) {
        out.push_str(&outgoing.stanza);
        match &mut self.managed {
            Some(managed) => managed.send(self.number, &self.shared.journal, outgoing),
            None => {
                self.note(Event::Sent { message: outgoing.message, place: None, copy: outgoing.copy });
            }
        }
    }

    /// The plan's next message; the pause until the one after it.
    fn next_message(&mut self, out: &mut String) -> Duration {
        let choice = self.shared.plan.message(self.number, self.messages);
        self.messages += 1;
        let next = self.sequences.entry(choice.to).or_default();
        let message = Message { from: self.number, to: choice.to, sequence: *next };
        *next += 1;
        let to = choice.to;
        let resource = if choice.full { format!("/{RESOURCE}") } else { String::new() };
        let filling = "x".repeat(self.shared.plan.filling);
        let stanza = format!(
            "<message to='user{to}@{DOMAIN}{resource}' type='chat' id='{message}'><body>{message} {filling}</body></message>"
        );
        self.send(Outgoing { message, stanza, copy: 0 }, out);
        choice.pause
    }
}
