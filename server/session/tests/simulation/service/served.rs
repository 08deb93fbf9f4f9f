//! A session with its connection, or waiting for one: what `c2s` does, without sockets.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use starling_link::{Envelope, Inbox, Parcel};
use starling_session::{Session, Step};
use starling_xml::{Limits, Scope, parse};
use starling_xmpp::{
    acks::nonza::{self, Nonza},
    ns,
};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    client::message_of,
    managed::{Incoming, Item, Managed},
    process::{Attach, Process},
    wire::End,
};

pub(crate) struct Served {
    process: Arc<Process>,
    session: Session,
    inbox: Inbox,
    end: Option<End>,
    managed: Option<Managed>,
    /// Where resumptions come from, and by which id.
    attach: Option<(u128, mpsc::Receiver<Attach>)>,
    timer: Pin<Box<Sleep>>,
    /// When a session without a connection ends.
    expires: Option<Instant>,
    /// When the store may be asked for the backlog again.
    retry_at: Option<Instant>,
    /// Of each stanza that is not safe: its number and when it came, by tokio's clock and by the real one.
    ages: VecDeque<(u64, Instant, std::time::Instant)>,
}

enum Event {
    Element(String),
    Gone,
    /// The server ends the session.
    Closed,
    Attach(Attach),
    Backlog,
    /// The client did not come back in time.
    Expired,
}

impl Served {
    pub(crate) fn new(process: Arc<Process>, session: Session, inbox: Inbox, end: End) -> Self {
        Self {
            process,
            session,
            inbox,
            end: Some(end),
            managed: None,
            attach: None,
            timer: Box::pin(sleep_until(Instant::now())),
            expires: None,
            retry_at: None,
            ages: VecDeque::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            match event {
                Event::Element(text) if text == "close" => return self.finish().await,
                Event::Element(text) => self.element(&text).await,
                Event::Gone if self.attach.is_some() => {
                    self.end = None;
                    let seconds = self.process.config.resume_seconds.into();
                    self.expires = Some(Instant::now() + Duration::from_secs(seconds));
                }
                Event::Gone | Event::Closed | Event::Expired => return self.finish().await,
                Event::Attach(attach) => self.resume(attach),
                Event::Backlog => self.fetch_backlog().await,
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some((_, attach)) = &mut self.attach
            && let Poll::Ready(Some(attach)) = attach.poll_recv(cx)
        {
            return Poll::Ready(Event::Attach(attach));
        }
        let (mut queued, mut urgent) = (false, false);
        while let Poll::Ready(Some(parcel)) = self.inbox.poll_recv(cx) {
            if let Parcel::Stanza(envelope) = parcel {
                queued = true;
                urgent |= envelope.tracking.as_ref().is_some_and(|tracking| !tracking.archived);
                self.push(envelope);
            }
        }
        if let Some(managed) = self.managed.as_mut().filter(|_| queued && self.end.is_some()) {
            managed.wrote(urgent, Instant::now().into_std());
        }
        if self.inbox.closing().is_some() {
            return Poll::Ready(Event::Closed);
        }
        self.tend(cx);
        let now = Instant::now();
        let Some(end) = &mut self.end else {
            return if self.expires.is_some_and(|at| at <= now) { Poll::Ready(Event::Expired) } else { Poll::Pending };
        };
        if self.inbox.has_backlog() && self.inbox.has_room() && self.retry_at.is_none_or(|at| at <= now) {
            return Poll::Ready(Event::Backlog);
        }
        if self.session.is_paused() {
            return Poll::Pending;
        }
        end.poll_recv(cx).map(|element| element.map_or(Event::Gone, Event::Element))
    }

    /// What is due, and the timer for what is due next.
    fn tend(&mut self, cx: &mut Context<'_>) {
        let now = Instant::now();
        let mut until = [self.expires, self.retry_at.filter(|at| *at > now)].into_iter().flatten().min();
        let mut earlier = |at: Option<Instant>| until = until.into_iter().chain(at).min();
        loop {
            let session_now = self.session_now();
            let mut errors = Vec::new();
            while self.session.tend(session_now, &mut errors) {}
            self.answer(&errors);
            if let Some(managed) = &mut self.managed {
                managed.safe(self.session.safe());
                if let Some(end) = &self.end {
                    let mut out = Vec::new();
                    earlier(managed.write(now.into_std(), &mut out).map(Instant::from_std));
                    send_all(end, &out);
                }
            }
            self.session.register(cx.waker());
            if self.session.is_tended() {
                break;
            }
        }
        if !self.session.is_settled() {
            earlier(Some(now + Duration::from_millis(100)));
        }
        if let Some(until) = until {
            self.timer.as_mut().reset(until);
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }

    /// A session reads the real clock when it takes a message. For the oldest that is not safe, what is told it is how
    /// much of tokio's time has passed since; half a tick more, so that the time that the simulation itself takes does
    /// not matter.
    fn session_now(&mut self) -> std::time::Instant {
        let safe = self.session.safe();
        while self.ages.pop_front_if(|(number, ..)| *number <= safe).is_some() {}
        match self.ages.front() {
            None => std::time::Instant::now(),
            Some((_, since, real)) => {
                let ticks = since.elapsed().as_millis() as u64 / 100;
                *real + Duration::from_millis(ticks * 100 + 50)
            }
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        self.process.shared.say(|| format!("server, {}: {}", self.session.full(), what()));
    }

    async fn element(&mut self, text: &str) {
        let element = parse(text, &Scope::client(), Limits::default()).unwrap();
        let raw = element.as_raw();
        if raw.namespace() == ns::SM {
            return self.nonza(nonza::parse(&raw).unwrap().unwrap());
        }
        if self.managed.as_mut().map(|managed| managed.received(raw.as_str(), || None)) == Some(Incoming::Repeated) {
            return;
        }
        self.say(|| format!("handles {:?}", message_of(text)));
        self.ages.push_back((self.session.handled() + 1, Instant::now(), std::time::Instant::now()));
        let mut out = Vec::new();
        match self.session.handle(raw, &mut out) {
            Ok(Step::Done) => {}
            Ok(Step::Wait(done)) => done.await,
            Err(error) => panic!("{error}"),
        }
        self.answer(&out);
        if let Some(managed) = &mut self.managed {
            managed.wrote(false, Instant::now().into_std());
        }
    }

    fn nonza(&mut self, nonza: Nonza<'_>) {
        match (nonza, &mut self.managed) {
            (Nonza::Enable { resume, .. }, None) => {
                let attach = resume.then(|| self.process.claim(self.session.full().to_bare()));
                let id = attach.as_ref().map(|(id, _)| *id);
                self.managed = Some(Managed::new(id, self.session.handled()));
                self.attach = attach;
                if let Some(end) = &self.end {
                    end.send(format!("<enabled id='{}'/>", id.unwrap_or_default()));
                }
            }
            (Nonza::Request, Some(managed)) => managed.requested(Instant::now().into_std()),
            (Nonza::Answer { h }, Some(managed)) => {
                managed.acknowledged(h, self.session.service(), &self.inbox).unwrap();
            }
            (nonza, _) => panic!("{nonza:?}"),
        }
    }

    /// Our own answers.
    fn answer(&mut self, out: &[u8]) {
        if let Some(managed) = &mut self.managed {
            managed.sent_own(out);
        }
        if let Some(end) = &self.end {
            send_all(end, out);
        }
    }

    fn push(&mut self, envelope: Arc<Envelope>) {
        let text = String::from_utf8(envelope.stanza.clone()).unwrap();
        self.say(|| format!("passes on {:?}", message_of(&text)));
        if let Some(managed) = &mut self.managed {
            managed.sent(envelope);
        } else {
            // The socket takes everything; whether it arrives nobody knows.
            if let Some(message) = message_of(&text) {
                self.process.shared.facts().written(message);
            }
            self.inbox.left(1, envelope.stanza.len());
            self.session.service().acknowledged(&envelope);
        }
        if let Some(end) = &self.end {
            end.send(text);
        }
    }

    fn resume(&mut self, Attach { end, h }: Attach) {
        let Some(managed) = &mut self.managed else { return };
        managed.acknowledged(h, self.session.service(), &self.inbox).unwrap();
        let h = managed.will_resume(self.session.safe());
        let h = managed.resumed(h);
        end.send(format!("<resumed h='{h}'/>"));
        for item in managed.unacknowledged() {
            let bytes = match item {
                Item::Shared(envelope) => &envelope.stanza[..],
                Item::Own(bytes) => bytes,
            };
            end.send(String::from_utf8(bytes.to_vec()).unwrap());
        }
        self.end = Some(end);
        self.expires = None;
    }

    async fn fetch_backlog(&mut self) {
        self.say(|| "fetches the backlog".to_owned());
        match self.session.fetch_backlog(&self.inbox).await {
            Ok(envelopes) => {
                self.retry_at = None;
                for envelope in envelopes {
                    self.push(envelope);
                }
                if let Some(managed) = &mut self.managed {
                    managed.wrote(false, Instant::now().into_std());
                }
            }
            Err(_) => self.retry_at = Some(Instant::now() + Duration::from_secs(1)),
        }
    }

    /// The session is over: what its client has not acknowledged goes where it can still be had, in order.
    async fn finish(self) {
        self.say(|| "ends".to_owned());
        let Self { process, session, mut inbox, end, managed, attach, .. } = self;
        if let Some((id, mut attach)) = attach {
            process.give_up(id);
            attach.close();
            while let Ok(Attach { end, .. }) = attach.try_recv() {
                // Whoever comes too late is told so.
                end.send("<gone/>".to_owned());
            }
        }
        let service = Arc::clone(session.service());
        // With nothing waited for in between: what is sent from now on must not get into the store first.
        for item in managed.into_iter().flat_map(|mut managed| managed.drain().collect::<Vec<_>>()) {
            if let Item::Shared(envelope) = item {
                service.returned(&envelope);
            }
        }
        session.detach();
        inbox.close();
        while let Some(parcel) = inbox.try_recv() {
            if let Parcel::Stanza(envelope) = parcel {
                service.returned(&envelope);
            }
        }
        session.end().await;
        if let Some(end) = end {
            end.send("closed".to_owned());
        }
    }
}

/// Elements that were written together, one by one.
fn send_all(end: &End, out: &[u8]) {
    if out.is_empty() {
        return;
    }
    let text = format!("<all xmlns='jabber:client'>{}</all>", std::str::from_utf8(out).unwrap());
    let limits = Limits { stanza_bytes: usize::MAX, ..Limits::default() };
    let all = parse(&text, &Scope::client(), limits).unwrap();
    for child in all.as_raw().children() {
        end.send(child.as_str().to_owned());
    }
}
