//! XEP-0012: Last Activity: how long the server is up, and how long ago an account was last available.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use minidom::{Element, rxml::xml_ncname};
use starling_store::Subscription;
use starling_xmpp::{
    error::{Condition, StanzaError},
    jid::{BareJid, Jid},
};
use tracing::warn;

use super::kept::store_away;
use crate::{
    Service,
    extension::{Answer, Ended, Extension, Request, Scope, Seen, Standard, Verdict},
};

const NAMESPACE: &str = "jabber:iq:last";
const KIND: &str = "last";
/// What is kept of the last status, in bytes; the rest is cut off.
const LONGEST_STATUS: usize = 1024;

pub(super) struct LastActivity {
    up_since: Instant,
    /// What accounts said when they became unavailable, until the session that said it ends: then it is written. No more
    /// of them than sessions.
    left: Mutex<HashMap<BareJid, Left>>,
}

/// When an account became unavailable, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Left {
    /// Since 1970.
    at: Duration,
    status: String,
}

impl LastActivity {
    pub(super) fn new() -> Self {
        Self { up_since: Instant::now(), left: Mutex::default() }
    }

    fn left(&self) -> MutexGuard<'_, HashMap<BareJid, Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extension for LastActivity {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0012", version: "2.0", shown_by: "protocol/last_activity.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq[@type='get']/query[@xmlns='jabber:iq:last']", "/presence[@type='unavailable']"]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server | Scope::OwnAccount => &[NAMESPACE],
            Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        let own = request.from.to_bare();
        let (service, asked) = (Arc::clone(request.service), request.stanza.to.as_ref().map(Jid::to_bare));
        let account = match request.scope {
            // §3: for how long it is up.
            Scope::Server => return Verdict::Answer(Ok(Some(query(self.up_since.elapsed(), "")))),
            Scope::OwnAccount => own.clone(),
            Scope::OtherAccount => asked.unwrap_or_else(|| own.clone()),
        };
        let left = self.left().get(&account).cloned();
        Verdict::Later(Box::pin(async move {
            if account != own {
                authorized(&service, &account, &own).await?;
            }
            ask(&service, &account, left).await
        }))
    }

    fn presence(&self, presence: &Seen<'_>) {
        let status = presence.stanza.raw.child("status", presence.stanza.raw.namespace());
        let mut status = status.map(|status| status.text().into_owned()).unwrap_or_default();
        status.truncate(status.floor_char_boundary(LONGEST_STATUS));
        let (account, left) = (presence.from.to_bare(), Left { at: now(), status });
        if presence.service.registry().are_shared() {
            // Whoever asks may be at another instance, which does not see what is remembered here.
            let (service, account, left) = (Arc::clone(presence.service), account.clone(), left.clone());
            presence.service.later(async move { keep(&service, &account, &left).await });
        }
        self.left().insert(account, left);
    }

    fn session_ended(&self, ended: &Ended<'_>) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let account = ended.full.to_bare();
        let said = self.left().remove(&account);
        if ended.moved && said.is_none() {
            return None;
        }
        // §5: a session that ends without a word was active until now.
        let left = if ended.was_available { Left { at: now(), status: String::new() } } else { said? };
        let service = Arc::clone(ended.service);
        Some(Box::pin(async move { keep(&service, &account, &left).await }))
    }
}

async fn keep(service: &Service, account: &BareJid, left: &Left) {
    let kept = service.store().put_document(account, KIND, "", &left.write(), usize::MAX).await;
    if let Err(error) = kept {
        warn!(%account, %error, "Last activity not kept.");
    }
}

impl Left {
    fn write(&self) -> Vec<u8> {
        format!("{} {}", self.at.as_secs(), self.status).into_bytes()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (at, status) = str::from_utf8(bytes).ok()?.split_once(' ')?;
        Some(Self { at: Duration::from_secs(at.parse().ok()?), status: status.to_owned() })
    }
}

/// §4: only those who may see the account's presence. Whether there is such an account is not told to others.
async fn authorized(service: &Service, account: &BareJid, asking: &BareJid) -> Result<(), StanzaError> {
    let roster = service.store().roster(account).await.map_err(|error| store_away(account, &error))?;
    let item = roster.items.iter().find(|item| item.contact == *asking);
    match item.map(|item| item.subscription) {
        Some(Subscription::From | Subscription::Both) => Ok(()),
        Some(Subscription::None | Subscription::To) | None => Err(Condition::Forbidden.into()),
    }
}

async fn ask(service: &Service, account: &BareJid, left: Option<Left>) -> Answer {
    let sessions = service.registry().sessions(account).await.map_err(|error| {
        warn!(%account, %error, "No look-up of an account's sessions.");
        StanzaError::new(Condition::InternalServerError)
    })?;
    // §4: available means active.
    if sessions.iter().any(|session| session.priority.is_some()) {
        return Ok(Some(query(Duration::ZERO, "")));
    }
    let left = match left {
        Some(left) => Some(left),
        None => {
            let kept = service.store().document(account, KIND, "").await;
            kept.map_err(|error| store_away(account, &error))?.as_deref().and_then(Left::read)
        }
    };
    // An account that was never available has no last activity.
    let left = left.ok_or(Condition::ItemNotFound)?;
    Ok(Some(query(now().saturating_sub(left.at), &left.status)))
}

fn query(ago: Duration, status: &str) -> Element {
    let seconds = ago.as_secs().to_string();
    Element::builder("query", NAMESPACE).attr(xml_ncname!("seconds").into(), seconds).append(status).build()
}

/// Since 1970: it must mean the same after a restart.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_as_it_was() {
        for status in ["", "gone fishing", "two  words\nand a line "] {
            let left = Left { at: Duration::from_secs(1_700_000_000), status: status.to_owned() };
            assert_eq!(Left::read(&left.write()), Some(left));
        }
        assert_eq!(Left::read(b"soon"), None);
    }
}
