//! What other instances say, and what they are told: the service's end of the link.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all, ready};
use prost::{Message as _, bytes::Bytes};
use starling_link::{Envelope, Handler, Link, Outcome, Settled};
use starling_proto::instance::{self, Notice, Request, notice, request};
use starling_registry::InstanceId;
use starling_xmpp::{
    jid::bare_str,
    stanza::{IqType, Kind},
};
use tracing::debug;

use crate::{Service, moving};

/// How long others have to say that they have taken what they were told.
pub(crate) const CONFIRM: Duration = Duration::from_secs(2);

/// What `c2s` does for streams that go on elsewhere.
pub trait Streams: Send + Sync + 'static {
    /// Another instance is the owner of a stream that was here, and wants what is left of it. `None`: there is nothing.
    fn hand_over(&self, to: InstanceId, asked: instance::HandOver) -> BoxFuture<'static, Option<instance::HandedOver>>;

    /// The new owner has it for good.
    fn settled(&self, settling: instance::Settling);
}

impl Service {
    /// Whoever hears what other instances say.
    #[must_use]
    pub fn handler(self: &Arc<Self>) -> Arc<dyn Handler> {
        Arc::new(Ear(Arc::clone(self)))
    }

    /// Asks another instance something. `None`: it does not answer, or not in time.
    pub async fn ask(&self, instance: InstanceId, what: request::What, within: Duration) -> Option<Bytes> {
        let request = Request { what: Some(what) };
        self.link().request(instance, request.encode_to_vec().into(), within).await
    }

    /// Tells another instance something.
    pub fn tell(&self, instance: InstanceId, what: notice::What) {
        self.link().notify(instance, Notice { what: Some(what) }.encode_to_vec().into());
    }

    /// Makes all other instances forget what they remember of an account, and waits until they have. One that does not say so
    /// in time is not waited for: it is about to be taken for dead, or will ask again by itself after a while.
    pub(crate) async fn forget_everywhere(&self, account: &str) {
        let members = self.link().members();
        let others = members.keys().filter(|instance| !self.link().is_here(**instance));
        let asked = others.map(|instance| {
            self.ask(*instance, request::What::Forget(instance::Forget { account: account.to_owned() }), CONFIRM)
        });
        if join_all(asked).await.iter().any(Option::is_none) {
            debug!(account, "Not all instances have said that they forgot an account");
        }
    }
}

/// Waits until these instances have taken what they were told before, and have written it. Not for ever: whether all have.
pub(crate) async fn confirm(link: &dyn Link, instances: &[InstanceId]) -> bool {
    let request = Request { what: Some(request::What::Settled(instance::Settled {})) }.encode_to_vec();
    let asked = instances.iter().map(|instance| link.request(*instance, request.clone().into(), CONFIRM));
    let have_all = join_all(asked).await.iter().all(Option::is_some);
    if !have_all {
        debug!("Not all instances have said that they took what they were told");
    }
    have_all
}

struct Ear(Arc<Service>);

impl Handler for Ear {
    fn answered(&self, envelope: &Arc<Envelope>) {
        self.0.all_answered(envelope);
    }

    fn settled(&self, envelope: &Arc<Envelope>, settled: Settled) {
        self.0.settled_elsewhere(envelope, settled);
    }

    fn failed(&self, envelope: &Arc<Envelope>) {
        if let Kind::Iq(IqType::Get | IqType::Set) = envelope.kind {
            self.0.bounce(envelope);
        }
    }

    fn undelivered(&self, from: InstanceId, envelope: &Arc<Envelope>, outcome: Outcome) {
        self.0.send_back(from, envelope, outcome);
    }

    fn orphaned(&self, envelope: &Arc<Envelope>, acknowledged: bool) {
        self.0.settle_row(envelope, acknowledged);
    }

    fn copied(&self, envelope: &Envelope) {
        let Some(to) = &envelope.to else { return };
        if let Some(id) = moving::id_of(&envelope.stanza) {
            self.0.recent().note(bare_str(&envelope.from), to.as_str(), &id);
        }
    }

    fn request(&self, from: InstanceId, content: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        // What cannot be read is of a newer release, as is what says nothing.
        let what = Request::decode(content).ok().and_then(|request| request.what);
        match what {
            None => Box::pin(ready(None)),
            // Taken in its order: whatever came before has been dealt with, and is on its way to the store.
            Some(request::What::Settled(_)) => {
                let service = Arc::clone(&self.0);
                Box::pin(async move { service.journal_barrier().await.then(Bytes::new) })
            }
            Some(request::What::Forget(instance::Forget { account })) => {
                self.0.forget(&account);
                Box::pin(ready(Some(Bytes::new())))
            }
            Some(request::What::RosterChanged(changed)) => {
                let service = Arc::clone(&self.0);
                Box::pin(async move {
                    service.roster_changed_elsewhere(changed).await;
                    Some(Bytes::new())
                })
            }
            Some(request::What::HandOver(asked)) => match self.0.streams() {
                None => Box::pin(ready(None)),
                Some(streams) => {
                    let answer = streams.hand_over(from, asked);
                    let nothing = || instance::HandedOver { nothing: true, ..instance::HandedOver::default() };
                    Box::pin(async move { Some(answer.await.unwrap_or_else(nothing).encode_to_vec().into()) })
                }
            },
        }
    }

    fn notified(&self, _: InstanceId, content: Bytes) {
        match Notice::decode(content).ok().and_then(|notice| notice.what) {
            None => {}
            Some(notice::What::Settling(settling)) => {
                if let Some(streams) = self.0.streams() {
                    streams.settled(settling);
                }
            }
        }
    }
}
