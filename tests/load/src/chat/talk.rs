//! One pair: who sends what when, and who must receive it.
//!
//! ```text
//!   sender ──── message ───► receiver          Copy::Direct
//!      └─► sender's other session              Copy::Sent       (with carbons)
//!          receiver's other session ◄─┘        Copy::Received   (with carbons)
//! ```

use std::{pin::pin, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Shape, Tally, schedule};
use crate::{
    Failure,
    client::{Client, Copy, Event, Manner, RESOURCE},
    target::Target,
};

/// Of each message's body, in bytes.
const BODY: usize = 200;
/// For what is still under way when the time is over.
const LAST: Duration = Duration::from_secs(10);
/// Whoever sends so long after it was due is late, by the machine's fault.
const LATE: Duration = Duration::from_millis(2);
/// The resource of a user's second session.
const OTHER: &str = "other";

/// When this pair sends.
#[derive(Debug)]
pub(super) enum Turn {
    /// While fewer than so many are under way, for so long.
    Window(usize, Duration),
    /// When it is told that a message is due.
    Schedule(mpsc::Receiver<std::time::Instant>),
}

/// One pair, of which one sends.
pub(super) struct Talk {
    to: String,
    body: String,
    run: u32,
    sender: Client,
    receiver: Client,
    /// Their second sessions.
    others: Option<(Client, Client)>,
    sent_at: Vec<Instant>,
    tallies: Tallies,
}

/// One for each copy that must come of a message.
#[derive(Default)]
struct Tallies {
    direct: Tally,
    sent: Tally,
    received: Tally,
    /// What came where nothing of the kind should.
    strange: u64,
}

#[derive(Clone, Copy)]
enum Seat {
    Sender,
    Receiver,
    SendersOther,
    ReceiversOther,
}

impl Talk {
    /// `from`, `to`: where the sender and the receiver log in.
    pub(super) async fn new(from: &Target, to: &Target, pair: usize, shape: &Shape, run: u32) -> Result<Self, Failure> {
        let (one, two) = (2 * pair, 2 * pair + 1);
        let manner = Manner { managed: shape.managed, roster: false, presence: shape.carbons, carbons: shape.carbons };
        let first = |target, user, peer| Client::log_in(target, user, RESOURCE, peer, manner);
        let (sender, receiver) = tokio::try_join!(first(from, one, two), first(to, two, one))?;
        let others = if shape.carbons {
            let second = |target, user| Client::log_in(target, user, OTHER, user, manner);
            Some(tokio::try_join!(second(from, one), second(to, two))?)
        } else {
            None
        };
        let mut body = "Lorem ipsum ".repeat(BODY / 12 + 1);
        body.truncate(BODY);
        Ok(Self {
            to: format!("{}/{RESOURCE}", to.bare_jid(two)),
            body,
            run,
            sender,
            receiver,
            others,
            sent_at: Vec::new(),
            tallies: Tallies::default(),
        })
    }

    /// One message that is not counted: whoever has to be found for it has been found then.
    ///
    /// # Errors
    /// It did not come, or not once.
    pub(super) async fn warm_up(&mut self, run: u32) -> Result<(), Failure> {
        self.run(Turn::Schedule(schedule::once())).await?;
        let Tallies { direct, sent, received, strange } = std::mem::take(&mut self.tallies);
        let copies = if self.others.is_some() { vec![direct, sent, received] } else { vec![direct] };
        if let Some(tally) = copies.iter().find(|tally| !tally.is_whole() || strange > 0) {
            return Err(format!("the first message to {}: {tally}", self.to).into());
        }
        self.sent_at.clear();
        self.run = run;
        Ok(())
    }

    /// Sends as `turn` says, and waits until everything came and is acknowledged, or [`LAST`] is over.
    pub(super) async fn run(&mut self, mut turn: Turn) -> Result<(), Failure> {
        let began = Instant::now();
        let mut end = match turn {
            Turn::Window(_, duration) => Some(began + duration),
            // Its queue says when it is over.
            Turn::Schedule(_) => None,
        };
        let mut timer = pin!(sleep_until(end.unwrap_or(began) + LAST));
        let mut asked = false;
        loop {
            if let Turn::Window(window, _) = turn {
                while end.is_some_and(|end| Instant::now() < end) && self.under_way() < window as u64 {
                    self.say(Instant::now()).await?;
                }
            }
            if end.is_some_and(|end| Instant::now() >= end) && self.under_way() == 0 {
                if self.sender.unacknowledged() == 0 {
                    return self.acknowledge().await;
                }
                if !asked {
                    self.sender.ask().await?;
                    asked = true;
                }
            }
            tokio::select! {
                due = next_turn(&mut turn), if end.is_none() => {
                    let now = Instant::now();
                    match due.map(Instant::from_std) {
                        Some(due) => {
                            self.tallies.direct.late += u64::from(now - due > LATE);
                            self.tallies.direct.lags.push(now - due);
                            self.say(due).await?;
                        }
                        None => end = Some(now),
                    }
                    timer.as_mut().reset(now + LAST);
                }
                event = next(&mut self.sender, &mut self.receiver, &mut self.others) => {
                    let (seat, event) = event?;
                    self.take(seat, event).await?;
                }
                // What did not come by now is lost, and counted so.
                () = timer.as_mut() => return Ok(()),
            }
        }
    }

    /// All that came: nobody asks again, or keeps any of it for later.
    async fn acknowledge(&mut self) -> Result<(), Failure> {
        self.receiver.answer().await?;
        if let Some((one, two)) = &mut self.others {
            one.answer().await?;
            two.answer().await?;
        }
        Ok(())
    }

    /// How many messages did not come everywhere yet.
    fn under_way(&self) -> u64 {
        let Tallies { direct, sent, received, .. } = &self.tallies;
        let mut came = direct.received;
        if self.others.is_some() {
            came = came.min(sent.received).min(received.received);
        }
        direct.sent - came
    }

    async fn say(&mut self, at: Instant) -> Result<(), Failure> {
        let Self { to, body, run, .. } = self;
        let number = self.tallies.direct.sent;
        self.tallies.direct.sent += 1;
        if self.others.is_some() {
            self.tallies.sent.sent += 1;
            self.tallies.received.sent += 1;
        }
        self.sent_at.push(at);
        self.sender
            .write(format_args!("<message to='{to}' type='chat' id='{run:x}-{number}'><body>{body}</body></message>"));
        self.sender.flush().await
    }

    async fn take(&mut self, seat: Seat, event: Event) -> Result<(), Failure> {
        match event {
            Event::Asked => match (seat, &mut self.others) {
                (Seat::Sender, _) => self.sender.answer().await,
                (Seat::Receiver, _) => self.receiver.answer().await,
                (Seat::SendersOther, Some((other, _))) | (Seat::ReceiversOther, Some((_, other))) => {
                    other.answer().await
                }
                (Seat::SendersOther | Seat::ReceiversOther, None) => Ok(()),
            },
            Event::Message { id, copy } => {
                self.count(seat, &id, copy);
                Ok(())
            }
            Event::Stanza(_) | Event::Other => Ok(()),
        }
    }

    fn count(&mut self, seat: Seat, id: &str, copy: Copy) {
        let number = id.split_once('-').filter(|(run, _)| u32::from_str_radix(run, 16) == Ok(self.run));
        let Some(number) = number.and_then(|(_, number)| number.parse::<u64>().ok()) else {
            // What an earlier run left behind.
            return;
        };
        let tally = match (seat, copy) {
            (Seat::Sender, Copy::Error) => {
                self.tallies.direct.errors += 1;
                return;
            }
            (Seat::Receiver, Copy::Direct) => &mut self.tallies.direct,
            (Seat::SendersOther, Copy::Sent) => &mut self.tallies.sent,
            (Seat::ReceiversOther, Copy::Received) => &mut self.tallies.received,
            (Seat::Sender | Seat::Receiver | Seat::SendersOther | Seat::ReceiversOther, _) => {
                self.tallies.strange += 1;
                return;
            }
        };
        match usize::try_from(number).ok().and_then(|number| self.sent_at.get(number)) {
            Some(at) => {
                tally.receive(number, at.elapsed());
            }
            None => self.tallies.strange += 1,
        }
    }

    /// Ends the sessions. What came of all copies.
    pub(super) async fn close(self) -> Result<Tally, Failure> {
        let Tallies { direct: mut tally, sent, received, strange } = self.tallies;
        tally.add(sent);
        tally.add(received);
        tally.errors += strange;
        tally.unacknowledged += u64::from(self.sender.unacknowledged());
        if let Some((one, two)) = self.others {
            tokio::try_join!(one.close(), two.close())?;
        }
        // At the relay each end waits for the other's: they are closed together.
        tokio::try_join!(self.sender.close(), self.receiver.close())?;
        Ok(tally)
    }
}

/// When the next message is due; `None` if none is any more. May be dropped without loss.
async fn next_turn(turn: &mut Turn) -> Option<std::time::Instant> {
    match turn {
        Turn::Schedule(turns) => turns.recv().await,
        Turn::Window(..) => None,
    }
}

/// What comes next to any of them. May be dropped without loss.
async fn next(
    sender: &mut Client,
    receiver: &mut Client,
    others: &mut Option<(Client, Client)>,
) -> Result<(Seat, Event), Failure> {
    let Some((one, two)) = others else {
        return tokio::select! {
            event = receiver.next() => Ok((Seat::Receiver, event?)),
            event = sender.next() => Ok((Seat::Sender, event?)),
        };
    };
    tokio::select! {
        event = receiver.next() => Ok((Seat::Receiver, event?)),
        event = sender.next() => Ok((Seat::Sender, event?)),
        event = one.next() => Ok((Seat::SendersOther, event?)),
        event = two.next() => Ok((Seat::ReceiversOther, event?)),
    }
}
