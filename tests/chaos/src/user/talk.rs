//! One connection, from its session to its end.

use std::time::Duration;

use starling_xml::OwnedElement;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Phase, RESOURCE, User};
use crate::{
    journal::{Event, HeardBy, Message},
    plan::{Asking, Leaving, Stay},
    wire::{Broken, DOMAIN, SM, Wire, condition},
};

const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
const CLIENT: &str = "jabber:client";
/// Unanswered for that long, a connection is taken for dead.
const DEAD: Duration = Duration::from_secs(30);
/// How long one who logs out waits for what is not acknowledged.
const LAST: Duration = Duration::from_secs(2);
/// Until those ask that seldom ask.
const SELDOM: Duration = Duration::from_millis(900);
/// The same when all come to rest.
const SOON: Duration = Duration::from_millis(200);

/// What a connection waits for.
struct Timers {
    send: Instant,
    leave: Option<Instant>,
    /// From then on nothing goes through.
    dead: Option<Instant>,
    ask: Instant,
    /// An `<r/>` was sent and not answered.
    asked: Option<Instant>,
    /// Messages since the last `<r/>`.
    since: u32,
    /// An `<a/>` is due then.
    answer: Option<Instant>,
    /// Logging out: then, whatever is acknowledged.
    close: Option<Instant>,
}

/// What comes next.
enum Turn {
    Element(OwnedElement),
    Time,
    Phase,
}

impl User {
    /// Talks until this client leaves, or the connection ends. `first` is to be sent first.
    pub(super) async fn talk(&mut self, wire: &mut Wire, stay: Stay, first: String) -> Result<Leaving, Broken> {
        let now = Instant::now();
        let mut timers = Timers {
            send: now + self.shared.plan.message(self.number, self.messages).pause,
            leave: self.shared.plan.cuts.then_some(now + stay.online),
            dead: (self.shared.plan.cuts && !stay.dead.is_zero()).then(|| now + stay.online.saturating_sub(stay.dead)),
            ask: now + SELDOM,
            asked: None,
            since: 0,
            answer: None,
            close: None,
        };
        let mut out = first;
        loop {
            let phase = *self.phase.borrow_and_update();
            let leaving = self.due(phase, stay.leaving, &mut timers, &mut out)?;
            let is_dead = timers.dead.is_some_and(|dead| Instant::now() >= dead);
            if is_dead && phase != Phase::Chat {
                return Ok(stay.leaving);
            }
            if !out.is_empty() && !is_dead {
                wire.send(&out).await?;
            }
            out.clear();
            if let Some(leaving) = leaving {
                if leaving == Leaving::LogOut {
                    log_out(wire).await?;
                }
                return Ok(leaving);
            }
            self.set_at_rest(phase == Phase::Settle && self.is_at_rest());
            let next = self.next_time(phase, &timers);
            let turn = tokio::select! {
                element = wire.next(), if !is_dead => Turn::Element(element?),
                () = sleep_until(next) => Turn::Time,
                // An error: nobody leads any more. Then the phase is still the last one, and time goes on.
                Ok(()) = self.phase.changed() => Turn::Phase,
            };
            match turn {
                Turn::Element(element) => self.take(&element, phase, &mut timers)?,
                Turn::Time => {}
                Turn::Phase => timers.ask = Instant::now(),
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        self.again.is_empty()
            && self.managed.as_ref().is_none_or(|managed| managed.uncounted() == 0 && managed.told == managed.received)
    }

    /// When something is due again if nothing comes.
    fn next_time(&self, phase: Phase, timers: &Timers) -> Instant {
        let waits = self.managed.as_ref().is_some_and(|managed| managed.uncounted() > 0);
        let chats = phase == Phase::Chat && timers.close.is_none();
        let times = [
            chats.then_some(timers.send),
            timers.leave.filter(|_| chats),
            timers.dead.filter(|dead| *dead > Instant::now()),
            (waits && timers.asked.is_none()).then_some(timers.ask),
            timers.asked.map(|asked| asked + DEAD),
            timers.answer,
            timers.close,
        ];
        times.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + DEAD)
    }

    /// Does what the time has come for; how the client leaves, if it does now.
    fn due(
        &mut self,
        phase: Phase,
        leaving: Leaving,
        timers: &mut Timers,
        out: &mut String,
    ) -> Result<Option<Leaving>, Broken> {
        let now = Instant::now();
        if timers.asked.is_some_and(|asked| now >= asked + DEAD) {
            return Err(Broken::Late("<a/>"));
        }
        let is_time = phase == Phase::Chat && timers.leave.is_some_and(|leave| now >= leave);
        if timers.close.is_none() && (is_time || phase == Phase::Finish) {
            if phase == Phase::Chat && leaving != Leaving::LogOut {
                return Ok(Some(leaving));
            }
            timers.close = Some(now + LAST);
            timers.ask = now;
        }
        while phase == Phase::Chat && timers.close.is_none() && now >= timers.send {
            timers.send = now + self.next_message(out);
            timers.since += 1;
        }
        let Some(managed) = &mut self.managed else {
            return Ok(timers.close.map(|_| Leaving::LogOut));
        };
        let every = match self.habits.asking {
            Asking::Always => 1,
            Asking::Fifth => 5,
            Asking::Seldom => u32::MAX,
        };
        if managed.uncounted() > 0 && timers.asked.is_none() && (now >= timers.ask || timers.since >= every) {
            out.push_str(&format!("<r xmlns='{SM}'/>"));
            (timers.asked, timers.since) = (Some(now), 0);
        }
        let is_done = timers.close.is_some_and(|close| managed.uncounted() == 0 || now >= close);
        let new = managed.received.wrapping_sub(managed.told);
        let unasked = is_done || phase != Phase::Chat || (self.habits.unasked > 0 && new >= self.habits.unasked);
        if (unasked && new > 0) || timers.answer.is_some_and(|answer| now >= answer) {
            timers.answer = None;
            out.push_str(&managed.answer(self.number, &self.shared.journal));
        }
        Ok(is_done.then_some(Leaving::LogOut))
    }

    /// Takes what came.
    fn take(&mut self, element: &OwnedElement, phase: Phase, timers: &mut Timers) -> Result<(), Broken> {
        let raw = element.as_raw();
        let now = Instant::now();
        match (raw.namespace(), raw.name()) {
            (SM, "r") => {
                let after = if phase == Phase::Chat { self.habits.answers_after } else { Duration::ZERO };
                timers.answer.get_or_insert(now + after);
            }
            (SM, "a") => {
                let h = raw.attribute("h").and_then(|h| h.parse().ok());
                let h = h.ok_or_else(|| Broken::Wrong("<a/> without h".to_owned()))?;
                timers.asked = None;
                timers.ask = now + if phase == Phase::Chat { SELDOM } else { SOON };
                if let Some(managed) = &mut self.managed {
                    managed.hear(self.number, &self.shared.journal, h, HeardBy::Answer);
                }
            }
            (CLIENT, "message" | "presence" | "iq") => {
                if let Some(managed) = &mut self.managed {
                    managed.received = managed.received.wrapping_add(1);
                }
                if raw.name() == "message" {
                    self.take_message(element);
                }
                let own = || format!("user{}@{DOMAIN}/{RESOURCE}", self.number);
                if raw.name() == "presence" && raw.attribute("from").is_some_and(|from| from == own()) {
                    self.available = true;
                }
            }
            (namespace, name) => return Err(Broken::Wrong(format!("<{name} xmlns='{namespace}'/>"))),
        }
        Ok(())
    }

    pub(super) fn take_message(&mut self, element: &OwnedElement) {
        let raw = element.as_raw();
        let name = raw.attribute("id").and_then(|id| id.parse::<Message>().ok());
        if raw.attribute("type").as_deref() == Some("error") {
            let Some(message) = name.filter(|message| message.from == self.number) else {
                self.note(Event::Trouble("an error for what was not sent".to_owned()));
                return;
            };
            let error = raw.children().find(|child| child.name() == "error");
            let kind = error.and_then(|error| error.attribute("type").map(std::borrow::Cow::into_owned));
            let error = format!("{}/{}", kind.unwrap_or_default(), condition(element, STANZAS));
            self.note(Event::Returned { message, error });
            self.returned.push(message);
            return;
        }
        let body = raw.child("body", CLIENT).map(|body| body.text().into_owned()).unwrap_or_default();
        let from_body = body.split(' ').next().and_then(|name| name.parse::<Message>().ok());
        let Some(message) = name.filter(|_| from_body == name) else {
            self.note(Event::Trouble(format!("a message with the id {:?}: {body:.100}", raw.attribute("id"))));
            return;
        };
        let account = format!("user{}@{DOMAIN}", self.number);
        let ids = raw.children().filter(|child| child.is("stanza-id", "urn:xmpp:sid:0"));
        let mut ids = ids.filter(|id| id.attribute("by").as_deref() == Some(account.as_str()));
        let stanza_id = ids.next().and_then(|id| id.attribute("id").map(std::borrow::Cow::into_owned));
        if ids.next().is_some() {
            self.note(Event::Trouble(format!("two stanza-ids by the account: {message}")));
        }
        let from = raw.attribute("from").unwrap_or_default();
        if from.split('/').next() != Some(&format!("user{}@{DOMAIN}", message.from)) {
            self.note(Event::Trouble(format!("{message} from {from}")));
        }
        let delayed = raw.child("delay", "urn:xmpp:delay").is_some();
        let place = self.managed.as_ref().map(|managed| (managed.session, managed.received));
        self.note(Event::Received { message, place, stanza_id, delayed, early: !self.available });
    }
}

/// Closes the stream and waits for the server to close it as well. What still comes is not handled: it was not
/// acknowledged, and comes again.
async fn log_out(wire: &mut Wire) -> Result<(), Broken> {
    wire.send("</stream:stream>").await?;
    let closed = timeout(LAST, async { while wire.next().await.is_ok() {} });
    // Late or not, the connection is dropped now.
    closed.await.unwrap_or_default();
    Ok(())
}
