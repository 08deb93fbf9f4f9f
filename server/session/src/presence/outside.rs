//! Presence that comes from other domains: from their servers, and from components.

use std::sync::Arc;

use starling_link::Envelope;
use starling_xml::restamp;
use starling_xmpp::{
    jid::Jid,
    stanza::{Kind, PresenceType, Stanza},
};
use tracing::warn;

use super::{may_pass, sees, simple, subscriptions::change_in, tell};
use crate::{Fate, Service, subscription::Change};

impl Service {
    /// Handles presence of somebody of another domain for an account of this server (RFC 6121 §3, §4). Answers go by the
    /// link to where it came from.
    pub async fn presence_from_outside(self: &Arc<Self>, stanza: &Stanza<'_>) -> Fate {
        let (Kind::Presence(presence), Some(from), Some(to)) = (stanza.kind, &stanza.from, &stanza.to) else {
            return Fate::DroppedNobodyWaits;
        };
        if to.node().is_none() || !may_pass(self, from, to, stanza.kind).await {
            return Fate::DroppedUnattended;
        }
        if let Some(change) = Change::of(presence) {
            let (user, contact) = (to.to_bare(), from.to_bare());
            let mut bytes = Vec::new();
            restamp(&stanza.raw, &[("from", Some(contact.as_str())), ("to", Some(user.as_str()))], &mut bytes);
            let envelope = Envelope::new(Some(user.clone().into()), contact.clone().into(), stanza.kind, bytes);
            return match change_in(self, &user, &contact, change, Arc::new(envelope)).await {
                Ok(()) => Fate::Answered,
                Err(error) => {
                    warn!(%user, %contact, %error, "Subscription not changed.");
                    Fate::DroppedUnattended
                }
            };
        }
        if presence == PresenceType::Probe {
            return self.probed(from, to).await;
        }
        let mut bytes = Vec::new();
        restamp(&stanza.raw, &[], &mut bytes);
        let envelope = Arc::new(Envelope::new(Some(to.clone()), from.clone(), stanza.kind, bytes));
        match tell(self, to, &envelope).await {
            Some(starling_link::Outcome::Queued) => Fate::Delivered,
            Some(starling_link::Outcome::Full) => Fate::DroppedFull,
            Some(starling_link::Outcome::NoSession) | None => Fate::DroppedUnattended,
        }
    }

    /// §4.3.2: whoever may see the account's presence is told it; anybody else that there is no subscription, whether there
    /// is such an account or not.
    async fn probed(&self, from: &Jid, to: &Jid) -> Fate {
        let (user, contact) = (to.to_bare(), from.to_bare());
        let roster = match self.roster(&user).await {
            Ok(roster) => roster,
            Err(error) => {
                warn!(%user, %error, "Probe not answered: no roster.");
                return Fate::DroppedUnattended;
            }
        };
        let (own, back) = (Jid::from(user.clone()), Jid::from(contact.clone()));
        let answer = |envelope: &Arc<Envelope>| self.link().send_domain(contact.domain().as_str(), envelope);
        if !roster.items.iter().any(|item| item.contact == contact && sees(item)) {
            // From the bare JID: a resource would say who is there.
            answer(&simple(PresenceType::Unsubscribed, &own, &back));
            return Fate::Answered;
        }
        let _turn = self.rosters().showing(user.as_str()).await;
        let kind = Kind::Presence(PresenceType::Available);
        let mut available = false;
        for record in super::shown(self, &user).await.iter() {
            let Some(presence) = &record.presence else { continue };
            if may_pass(self, &record.full, &back, kind).await {
                available = true;
                let shown = Envelope::new(None, record.full.clone().into(), kind, presence.to_vec());
                answer(&super::readdressed(&shown, &back));
            }
        }
        if !available {
            answer(&simple(PresenceType::Unavailable, &own, &back));
        }
        Fate::Answered
    }
}
