//! Presence that did not fit into a session's queue is not kept one by one: once there is room, the session is told what is
//! so by then, of each contact the latest.

use starling_xmpp::{
    jid::{BareJid, Jid},
    stanza::{Kind, PresenceType},
};
use tracing::warn;

use super::{is_seen, may_pass, simple};
use crate::Session;

impl Session {
    /// Writes the present presence of everybody whose presence this session gets, to be called when
    /// [`starling_link::Inbox::has_missed_presence`] says so. Contacts of other domains are asked.
    pub async fn refresh_presence(&self, out: &mut Vec<u8>) {
        if self.priority.is_none() {
            return;
        }
        let account = self.full.to_bare();
        let roster = match self.service.roster(&account).await {
            Ok(roster) => roster,
            Err(error) => {
                warn!(%account, %error, "Presence not told again: no roster.");
                return;
            }
        };
        let seen = || roster.items.iter().filter(|item| is_seen(item));
        let (mut local, own): (Vec<BareJid>, Jid) = (vec![account.clone()], Jid::from(self.full.clone()));
        local.extend(seen().map(|item| item.contact.clone()).filter(|contact| self.serves(contact)));
        let sessions = match self.service.registry().with_presence(&local).await {
            Ok(sessions) => sessions,
            Err(error) => {
                warn!(%account, %error, "Presence not told again: contacts not known.");
                return;
            }
        };
        for (contact, sessions) in local.iter().zip(&sessions) {
            // All of it is gone, whatever resources the client knows of, and then comes what is there.
            if *contact != account {
                let from = Jid::from(contact.clone());
                out.extend_from_slice(&simple(PresenceType::Unavailable, &from, &own).stanza);
            }
            for record in sessions.iter() {
                let Some(presence) = &record.presence else { continue };
                if may_pass(&self.service, &record.full, &self.full, Kind::Presence(PresenceType::Available)).await {
                    out.extend_from_slice(presence);
                }
            }
        }
        for item in seen().filter(|item| !self.serves(&item.contact)) {
            let probe = simple(PresenceType::Probe, &own, &Jid::from(item.contact.clone()));
            self.service.link().send_domain(item.contact.domain().as_str(), &probe);
        }
    }

    fn serves(&self, contact: &BareJid) -> bool {
        self.service.serves(contact.domain().as_str())
    }
}
