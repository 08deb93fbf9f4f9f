//! XEP-0191: Blocking Command. What blocking does to stanzas is in `crate::privacy`.

use std::sync::Arc;

use minidom::Element;
use starling_registry::{SessionId, SessionRecord, Update};
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::{self, BareJid, FullJid, Jid},
    stanza::{IqType, Kind},
};
use tracing::warn;

use super::pushes::push;
use crate::{
    Service,
    extension::{Answer, Extension, Request, Scope, Standard, Verdict},
    privacy::{self, Applied, BLOCKING},
};

/// Addresses that one account may block; one more is refused with `resource-constraint`.
const BLOCKED: usize = 1000;

pub(super) struct Blocking;

/// What a client asks for.
enum Command {
    /// §3.2.
    Get,
    /// §3.3.
    Block(Vec<Jid>),
    /// §3.4; `None`: §3.5, all of them.
    Unblock(Option<Vec<Jid>>),
}

impl Extension for Blocking {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0191", version: "1.3", shown_by: "protocol/blocking.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &[
            "/iq[@type='get']/blocklist[@xmlns='urn:xmpp:blocking']",
            "/iq[@type='set']/block[@xmlns='urn:xmpp:blocking']",
            "/iq[@type='set']/unblock[@xmlns='urn:xmpp:blocking']",
        ]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server | Scope::OwnAccount => &[BLOCKING],
            Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        match request.scope {
            Scope::OwnAccount => {}
            Scope::Server | Scope::OtherAccount => return Verdict::Pass,
        }
        let command = match command(request) {
            Ok(command) => command,
            Err(error) => return Verdict::Answer(Err(error)),
        };
        let (service, full, session) = (request.service.clone(), request.from.clone(), request.session);
        Verdict::Later(Box::pin(async move {
            match command {
                Command::Get => get(&service, &full, session).await,
                command => set(&service, &full.to_bare(), command).await,
            }
        }))
    }
}

fn command(request: &Request<'_>) -> Result<Command, StanzaError> {
    if request.stanza.kind == Kind::Iq(IqType::Get) {
        return Ok(Command::Get);
    }
    let payload = request.stanza.raw.children().next().ok_or(Condition::BadRequest)?;
    let mut addresses = Vec::new();
    for item in payload.children() {
        let address = item.attribute("jid").filter(|_| item.is("item", BLOCKING)).ok_or(Condition::BadRequest)?;
        addresses.push(jid::parse(&address).map_err(|_| Condition::JidMalformed)?);
    }
    match (payload.name(), addresses.is_empty()) {
        ("unblock", true) => Ok(Command::Unblock(None)),
        ("unblock", false) => Ok(Command::Unblock(Some(addresses))),
        // §3.3: at least one.
        (_, true) => Err(Condition::BadRequest.into()),
        (_, false) => Ok(Command::Block(addresses)),
    }
}

/// The list; from now on the session gets its changes. The turn makes sure that none is missed in between.
async fn get(service: &Arc<Service>, full: &FullJid, session: SessionId) -> Answer {
    let account = full.to_bare();
    let turn = service.privacy().turn(account.as_str()).await;
    let away = StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait);
    if let Err(error) = service.registry().update(full, session, Update::BlockList(true)).await {
        warn!(%full, %error, "Block list not handed out.");
        return Err(away);
    }
    let held = service.privacy().get(service.store(), &account).await.map_err(|error| {
        warn!(%full, %error, "Block list not read.");
        away.clone()
    })?;
    let mut list = Element::bare("blocklist", BLOCKING);
    if let Some(held) = held {
        for address in &held.lists.blocked {
            list.append_child(privacy::blocked_element(address));
        }
    }
    drop(turn);
    Ok(Some(list))
}

async fn set(service: &Arc<Service>, account: &BareJid, command: Command) -> Answer {
    let turn = service.privacy().turn(account.as_str()).await;
    let (name, addresses) = match &command {
        Command::Block(addresses) => ("block", addresses.as_slice()),
        Command::Unblock(addresses) => ("unblock", addresses.as_deref().unwrap_or_default()),
        Command::Get => return Err(Condition::BadRequest.into()),
    };
    let changed = privacy::change(service, account, |lists| match &command {
        Command::Block(addresses) => {
            lists.block(addresses.iter().cloned());
            if lists.blocked.len() > BLOCKED { Err(Condition::ResourceConstraint.into()) } else { Ok(()) }
        }
        Command::Unblock(addresses) => {
            lists.unblock(addresses.as_deref());
            Ok(())
        }
        Command::Get => Ok(()),
    })
    .await?;
    let mut payload = Element::bare(name, BLOCKING);
    for address in addresses {
        payload.append_child(privacy::blocked_element(address));
    }
    // §3.3 to §3.5: to all resources that asked for the list, the one that changed it included.
    push(service, account, &payload, |record| record.block_list).await;
    if let Some(after) = changed.after {
        let before = changed.before;
        privacy::retell(service, account, |record: &SessionRecord| {
            let active = record.active_list.clone();
            Some((
                Applied { held: Arc::clone(&before), active: active.clone() },
                Applied { held: Arc::clone(&after), active },
            ))
        })
        .await;
    }
    drop(turn);
    Ok(None)
}
