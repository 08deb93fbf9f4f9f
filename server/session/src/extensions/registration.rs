//! XEP-0077: In-Band Registration, of those who are logged in: what one is registered as, another password, the end of
//! the account. How an account is made before log-in is `starling_xmpp::negotiate`'s and `c2s`'s.

use std::{sync::Arc, thread::available_parallelism};

use minidom::Element;
use starling_store::{Account, PutMode};
use starling_xmpp::{
    IqType, Kind, SystemRandom,
    error::{Condition, ErrorType, StanzaError, StreamCondition},
    jid::{self, FullJid},
    negotiate::NewPassword,
    ns,
};
use tokio::{sync::Semaphore, task::spawn_blocking};
use tracing::{info, warn};

use super::{Options, kept::store_away};
use crate::{
    Service,
    extension::{Answer, Extension, Request, Scope, Standard, Verdict},
};

pub(super) struct Registration {
    /// Whether it is on, and rounds of PBKDF2 for new passwords.
    options: Options,
    /// Derivations at once: as many as cores; more wait.
    derivations: Arc<Semaphore>,
}

impl Registration {
    pub(super) fn new(options: Options) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { options, derivations: Arc::new(Semaphore::new(cores)) }
    }
}

impl Extension for Registration {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0077", version: "2.4", shown_by: "protocol/registration.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq/query[@xmlns='jabber:iq:register']"]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server if self.options.registration().is_some() => &[ns::REGISTER],
            Scope::Server | Scope::OwnAccount | Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        let Some(iterations) = self.options.registration() else { return Verdict::Pass };
        if request.scope == Scope::OtherAccount {
            return Verdict::Pass;
        }
        let username = request.from.node().map(|node| node.as_str().to_owned()).unwrap_or_default();
        let tree = request.stanza.raw.to_tree().ok();
        let Some(query) = tree.as_ref().and_then(|iq| iq.children().next()) else {
            return Verdict::Answer(Err(Condition::BadRequest.into()));
        };
        if request.stanza.kind == Kind::Iq(IqType::Get) {
            return Verdict::Answer(Ok(Some(registered(&username))));
        }
        let (service, from) = (Arc::clone(request.service), request.from.clone());
        if query.has_child("remove", ns::REGISTER) {
            // §3.2: alone.
            if query.children().count() != 1 {
                return Verdict::Answer(Err(Condition::BadRequest.into()));
            }
            return Verdict::Later(Box::pin(async move { remove(&service, &from).await }));
        }
        let field = |name| query.get_child(name, ns::REGISTER).map(Element::text).filter(|text| !text.is_empty());
        // §3.3
        let (Some(named), Some(password)) = (field("username"), field("password")) else {
            return Verdict::Answer(Err(Condition::BadRequest.into()));
        };
        if jid::parse_local(&named).ok().is_none_or(|named| named.as_str() != username) {
            return Verdict::Answer(Err(Condition::Forbidden.into()));
        }
        let password = NewPassword::new(&password);
        let derivations = Arc::clone(&self.derivations);
        Verdict::Later(Box::pin(async move { change(&service, &from, password, iterations, derivations).await }))
    }
}

/// §3.1: those who are registered learn as what. Never the password, which nobody here knows.
fn registered(username: &str) -> Element {
    Element::builder("query", ns::REGISTER)
        .append(Element::bare("registered", ns::REGISTER))
        .append(Element::builder("username", ns::REGISTER).append(username))
        .append(Element::bare("password", ns::REGISTER))
        .build()
}

/// §3.3. Streams go on: it was their owner who asked.
async fn change(
    service: &Service,
    from: &FullJid,
    password: NewPassword,
    iterations: u32,
    derivations: Arc<Semaphore>,
) -> Answer {
    let internal = || StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait);
    let turn = derivations.acquire_owned().await.map_err(|_closed| internal())?;
    let derived = spawn_blocking(move || {
        let derived = password.derive(iterations, &mut SystemRandom);
        drop(turn);
        derived
    });
    let credentials = derived.await.map_err(|_| internal())?;
    let credentials =
        credentials.map_err(|error| StanzaError::with_text(Condition::NotAcceptable, error.to_string()))?;
    let account = Account { jid: from.to_bare(), credentials };
    let left_out = service.store().put(std::slice::from_ref(&account), PutMode::Replace).await;
    match left_out.map_err(|error| store_away(&account.jid, &error))?.as_slice() {
        [] => {
            info!(account = %account.jid, "Password changed.");
            Ok(None)
        }
        // It was removed a moment ago.
        _ => Err(Condition::RegistrationRequired.into()),
    }
}

/// §3.2: the account with all that hangs on it; then its streams end, each with `not-authorized`, and the result before
/// that on the stream that asked.
async fn remove(service: &Arc<Service>, from: &FullJid) -> Answer {
    let account = from.to_bare();
    let removed = service.remove_account(&account).await.map_err(|error| store_away(&account, &error))?;
    if !removed {
        return Err(Condition::RegistrationRequired.into());
    }
    info!(%account, "Account removed by its owner.");
    match service.registry().sessions(&account).await {
        Ok(sessions) => {
            for held in sessions.iter() {
                service.link().close(held, StreamCondition::NotAuthorized.into());
            }
        }
        Err(error) => warn!(%account, %error, "Streams of a removed account not ended."),
    }
    Ok(None)
}
