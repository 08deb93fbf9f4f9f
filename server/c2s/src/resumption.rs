//! Sessions that can be resumed (XEP-0198 §5), and how one passes from the task that has it to a new connection.
//!
//! ```text
//!   new connection: <resume previd/> ──► Resumable::fetch ──► request ──► the session's task, with or without a socket
//!                                              ◄── Live ───────────────── lets go: never touches the session again
//! ```

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use papaya::HashMap;
use starling_link::Inbox;
use starling_session::Session;
use starling_xmpp::jid::{BareJid, bare_str};
use tokio::{sync::oneshot, time::timeout};

use crate::{managed::Managed, recorder::Shadow};

/// For the task that has the session to let go of it: it may be waiting for the store.
const HAND_OVER: Duration = Duration::from_secs(10);

/// A session without a connection.
pub(crate) struct Live {
    pub(crate) session: Session,
    pub(crate) inbox: Inbox,
    pub(crate) managed: Box<Managed>,
    pub(crate) claim: Claim,
}

/// Sessions of this process that can be resumed, by the id that their client was told: 128 random bits. Bounded by the
/// sessions there are.
#[derive(Default)]
pub(crate) struct Resumable {
    sessions: HashMap<u128, Arc<Slot>>,
    /// Those that ended without being resumed, the oldest first.
    ended: Mutex<VecDeque<Ended>>,
}

/// How much of what its client sent was safe when a session ended (XEP-0198 §5: `h` of `<failed/>`).
struct Ended {
    id: u128,
    account: Box<str>,
    h: u32,
}

/// Ended sessions that are remembered.
const ENDED: usize = 4096;

struct Slot {
    account: Box<str>,
    /// There is a request: asked at each wake-up, so that the lock is for those who have one.
    asked: AtomicBool,
    request: Mutex<Option<oneshot::Sender<Box<Live>>>>,
    owner: AtomicWaker,
}

/// The owner's hold on its place in the table; given up when it is dropped.
pub(crate) struct Claim {
    table: Arc<Resumable>,
    id: u128,
    seconds: u32,
    slot: Arc<Slot>,
    /// Where others see it; `None`: nobody else can resume it, or somebody else has it by now.
    shadow: Option<Arc<Shadow>>,
}

impl Resumable {
    /// Lets the session be resumed by `id` until the claim is dropped, which it is `seconds` after its connection was cut.
    pub(crate) fn claim(
        self: &Arc<Self>,
        id: u128,
        session: &Session,
        seconds: u32,
        shadow: Option<Arc<Shadow>>,
    ) -> Claim {
        let account = bare_str(session.full()).into();
        let slot = Arc::new(Slot {
            account,
            asked: AtomicBool::new(false),
            request: Mutex::new(None),
            owner: AtomicWaker::new(),
        });
        self.sessions.pin().insert(id, Arc::clone(&slot));
        Claim { table: Arc::clone(self), id, seconds, slot, shadow }
    }

    /// How much of what the client sent in an ended session of this account was safe.
    pub(crate) fn ended(&self, account: &BareJid, id: u128) -> Option<u32> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().find(|ended| ended.id == id && *ended.account == *account.as_str()).map(|ended| ended.h)
    }

    /// Asks for the session that `previd` names, whoever has it. `None`: there is none that this account may have.
    /// Another account's session is not told from none.
    pub(crate) fn request(&self, account: &BareJid, id: u128) -> Option<Fetching> {
        let slot = self.sessions.pin().get(&id).filter(|slot| *slot.account == *account.as_str()).map(Arc::clone)?;
        let (sender, receiver) = oneshot::channel();
        // Whoever asked before and has not been served gets nothing: the client has come again since.
        *slot.request.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        slot.asked.store(true, Ordering::Release);
        slot.owner.wake();
        Some(Fetching(receiver))
    }
}

/// A session on its way. Whoever drops it asks [`Fetching::stop`] first.
pub(crate) struct Fetching(oneshot::Receiver<Box<Live>>);

impl Fetching {
    /// The session. `None`: somebody else was faster, or it ended meanwhile.
    pub(crate) async fn wait(&mut self) -> Option<Box<Live>> {
        match timeout(HAND_OVER, &mut self.0).await {
            Ok(live) => live.ok(),
            Err(_late) => self.stop(),
        }
    }

    /// Wants it no longer; what arrived in that very moment.
    pub(crate) fn stop(&mut self) -> Option<Box<Live>> {
        self.0.close();
        self.0.try_recv().ok()
    }
}

impl Claim {
    /// How long the session waits without a connection.
    pub(crate) const fn seconds(&self) -> u32 {
        self.seconds
    }

    /// Who asks for the session, if anybody does; registers whom to wake when somebody does.
    pub(crate) fn request(&self, waker: &Waker) -> Option<oneshot::Sender<Box<Live>>> {
        self.slot.owner.register(waker);
        if let Some(shadow) = &self.shadow {
            shadow.register(waker);
        }
        if !self.slot.asked.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut request = self.slot.request.lock().unwrap_or_else(PoisonError::into_inner);
        request.take().filter(|sender| !sender.is_closed())
    }
}

impl Claim {
    /// Where others see the stream, if they do.
    pub(crate) const fn shadow(&self) -> Option<&Arc<Shadow>> {
        self.shadow.as_ref()
    }

    /// The stream goes on without this claim: somebody else has it by now, or whoever comes is to find it as it is written.
    pub(crate) fn let_go(mut self) {
        self.shadow = None;
    }

    /// The session ends without being resumed; `h` of what its client sent is safe.
    pub(crate) fn ended(mut self, h: u32) {
        if let Some(shadow) = self.shadow.take() {
            shadow.close(Some(h));
        }
        let mut ended = self.table.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= ENDED {
            ended.pop_front();
        }
        ended.push_back(Ended { id: self.id, account: self.slot.account.clone(), h });
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(shadow) = self.shadow.take() {
            shadow.close(None);
        }
        // Whoever resumes it here has made a claim of their own by now.
        self.table.sessions.pin().remove_if(&self.id, |_, slot| Arc::ptr_eq(slot, &self.slot)).ok();
        *self.slot.request.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The id as its client knows it.
pub(crate) fn write(id: u128) -> String {
    format!("{id:032x}")
}

/// The id that a client says. `None`: it is none of ours.
pub(crate) fn read(previd: &str) -> Option<u128> {
    let is_ours = previd.len() == 32 && previd.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| u128::from_str_radix(previd, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_only_as_it_was_written() {
        for id in [0, 1, u128::MAX] {
            assert_eq!(read(&write(id)), Some(id));
        }
        for other in ["", "1", "+0000000000000000000000000000001", "0000000000000000000000000000000G"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(read(&"F".repeat(32)), None);
    }
}
