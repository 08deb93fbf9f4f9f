//! From an accepted connection to a bound resource: TLS, SASL and bind, driven by `starling_xmpp::negotiate`.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use starling_link::Inbox;
use starling_session::Session;
use starling_stream::Transport;
use starling_xml::{Frame, Limits, Reader};
use starling_xmpp::{
    SystemRandom,
    acks::{TooHigh, nonza},
    error::{StreamCondition, StreamError},
    jid::BareJid,
    negotiate::{Accept, Input, Next},
    sasl::server::PasswordCheck,
};
use tokio::{select, task::spawn_blocking, time::timeout_at};
use tracing::{debug, info, warn};

use crate::{
    Rules,
    closing::{LAST_WORDS, say_last_words},
    connection::{Connection, Input as Unread, Pace},
    limits::{Permit, Refusal},
    managed::Item,
    metrics::LogInEnd,
    outbound::Outbound,
    register::register,
    resumption::{self, Fetching, Live},
    scratch::Scratch,
    server::Shared,
    taking::{Taken, take},
    timer::Timer,
};

/// For the registry to take what a client is about to be told of its session.
const RECORD: Duration = Duration::from_secs(1);

/// Where a connection comes from and how it began.
pub(crate) struct Origin {
    /// The client's own address, also behind a proxy.
    pub(crate) address: std::net::IpAddr,
    /// TLS comes first.
    pub(crate) direct_tls: bool,
    pub(crate) accepted: Instant,
}

/// A connection that is not logged in yet.
struct LogIn {
    shared: Arc<Shared>,
    /// Those that it began with: what was offered is what is taken.
    rules: Arc<Rules>,
    origin: Origin,
    permit: Permit,
    /// `None` only while a TLS handshake has it, and after one that failed.
    transport: Option<Transport>,
    reader: Reader,
    accept: Accept,
    /// What came and is not parsed yet: `input[at..]`.
    input: Vec<u8>,
    at: usize,
    outbound: Outbound,
    session: Option<Begun>,
    fetching: Option<Fetching>,
}

/// What a log-in ends in.
enum Begun {
    /// A resource is bound.
    Bound(Box<(Session, Inbox)>),
    /// A session was taken from its last connection.
    Resumed(Box<Live>),
}

/// Why there is no session.
enum End {
    /// With an error of ours for the client.
    Error(StreamError),
    /// The client ended its stream; ours is ended in `out`.
    Finished,
    /// The client acknowledges what it was not sent (XEP-0198 §4).
    TooHigh(TooHigh),
    /// There is no connection any more.
    Gone(Option<io::Error>),
    /// The handshake failed.
    Tls(starling_stream::Error),
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::Error(error)
    }
}

/// Runs the whole connection: log-in, then, in a task of its own and without what only log-in needed, the session.
pub(crate) async fn serve(shared: Arc<Shared>, transport: Transport, origin: Origin, permit: Permit) {
    let mut log_in = LogIn::new(shared, transport, origin, permit);
    let deadline = log_in.origin.accepted + log_in.rules.limits.authentication_time;
    let stop = log_in.shared.stop.clone();
    let outcome = select! {
        biased;
        () = stop.cancelled() => Err(End::Error(StreamCondition::SystemShutdown.into())),
        outcome = timeout_at(deadline.into(), log_in.negotiate()) => outcome.unwrap_or_else(|_| {
            log_in.shared.metrics.log_in_ended(LogInEnd::TimedOut);
            let error = StreamError::with_text(StreamCondition::ConnectionTimeout, "no log-in in time");
            Err(End::Error(error))
        }),
    };
    match outcome {
        Ok(()) => log_in.hand_over(),
        Err(end) => log_in.end(end).await,
    }
}

/// Tells a connection that it is turned away, and why.
pub(crate) async fn refuse(shared: Arc<Shared>, transport: Transport, direct_tls: bool, refusal: Refusal) {
    let transport = match (direct_tls, &shared.certificates) {
        (true, Some(certificates)) => {
            let deadline = tokio::time::Instant::now() + LAST_WORDS;
            match timeout_at(deadline, transport.accept_tls(&certificates.acceptor())).await {
                Ok(Ok(transport)) => transport,
                Ok(Err(_)) | Err(_) => return,
            }
        }
        _ => transport,
    };
    let mut accept = Accept::new(Arc::clone(&shared.rules.load().policy), transport.tls_info().cloned(), SystemRandom);
    let mut outbound = Outbound::default();
    accept.fail(&refusal.into(), outbound.own());
    say_last_words(transport, &mut outbound, LAST_WORDS, drop, |_| {}).await;
}

impl LogIn {
    fn new(shared: Arc<Shared>, transport: Transport, origin: Origin, permit: Permit) -> Self {
        let rules = shared.rules.load_full();
        let limits = Limits { stanza_bytes: rules.limits.stanza_bytes_before_log_in, ..rules.limits.stanza };
        let accept = Accept::new(Arc::clone(&rules.policy), None, SystemRandom);
        Self {
            reader: Reader::new(limits),
            accept,
            transport: Some(transport),
            input: Vec::new(),
            at: 0,
            outbound: Outbound::default(),
            session: None,
            fetching: None,
            shared,
            rules,
            origin,
            permit,
        }
    }

    /// Until a resource is bound. Cut off at any of its waits, what it leaves can still be told an error.
    async fn negotiate(&mut self) -> Result<(), End> {
        if self.origin.direct_tls {
            self.handshake().await?;
            let info = self.transport.as_ref().and_then(Transport::tls_info).cloned();
            self.accept = Accept::new(Arc::clone(&self.rules.policy), info, SystemRandom);
        }
        loop {
            let Some(mut next) = self.step()? else {
                self.flush().await?;
                self.fill().await?;
                continue;
            };
            loop {
                next = match next {
                    Next::Read => break,
                    Next::StartTls => self.start_tls().await?,
                    Next::Load { account } => self.load(&account).await?,
                    Next::CheckPassword(check) => self.check(check).await?,
                    Next::Authenticated { account } => {
                        debug!(%account, address = %self.origin.address, "Authenticated.");
                        self.reader.restart();
                        break;
                    }
                    Next::LogInFailed { account } => {
                        self.failed(account.as_ref()).await?;
                        break;
                    }
                    Next::Register { account, password } => {
                        let made = register(&self.shared, &self.permit, account, password).await;
                        self.accept.handle(Input::Registered(made), self.outbound.own())?
                    }
                    Next::Bind { account, resource } => {
                        let bound = self.shared.service.bind(&account, resource, &mut SystemRandom).await;
                        match bound {
                            Ok((session, inbox)) => {
                                let full = session.full().clone();
                                self.session = Some(Begun::Bound(Box::new((session, inbox))));
                                self.accept.handle(Input::Bound(full), self.outbound.own())?
                            }
                            Err(error) => self.accept.handle(Input::BindRefused(error), self.outbound.own())?,
                        }
                    }
                    Next::Established { full, lang } => {
                        debug!(%full, address = %self.origin.address, "Resource bound.");
                        if let Some(Begun::Bound(bound)) = &mut self.session {
                            bound.0.set_lang(lang);
                        }
                        return Ok(());
                    }
                    Next::Resume { account, previd, h } => self.resume(&account, &previd, h).await?,
                    Next::Resumed => return Ok(()),
                };
            }
        }
    }

    /// Handles the next whole frame. `None`: there is none yet.
    fn step(&mut self) -> Result<Option<Next>, End> {
        let mut rest = self.input.get(self.at..).unwrap_or_default();
        let before = rest.len();
        let frame = self.reader.read(&mut rest).map_err(StreamError::from)?;
        self.at += before - rest.len();
        let input = match &frame {
            None => {
                self.input.clear();
                self.at = 0;
                return Ok(None);
            }
            Some(Frame::Open(header)) => Input::Open(header),
            Some(Frame::Element(element)) => Input::Element(*element),
            Some(Frame::Close) => {
                self.accept.close(self.outbound.own());
                return Err(End::Finished);
            }
        };
        Ok(Some(self.accept.handle(input, self.outbound.own())?))
    }

    async fn fill(&mut self) -> Result<(), End> {
        let transport = self.transport.as_mut().ok_or(End::Gone(None))?;
        let input = &mut self.input;
        let read = poll_fn(|cx| {
            let mut scratch = Scratch::take();
            transport.poll_read(cx, scratch.space()).map_ok(|read| {
                scratch.fill(read);
                input.extend_from_slice(&scratch);
                read
            })
        });
        match read.await {
            Ok(0) => Err(End::Gone(None)),
            Ok(_) => Ok(()),
            Err(error) => Err(End::Gone(Some(error))),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let transport = self.transport.as_mut().ok_or(End::Gone(None))?;
        let outbound = &mut self.outbound;
        poll_fn(|cx| match outbound.poll_write(transport, cx, drop) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(End::Gone(Some(error)))),
        })
        .await
    }

    /// RFC 6120 §5.4.3.
    async fn start_tls(&mut self) -> Result<Next, End> {
        // What came behind `<starttls/>` in the clear would be taken for what came under TLS. White space says nothing,
        // and some clients end each element with a new line.
        let behind = self.input.get(self.at..).unwrap_or_default();
        if !behind.iter().all(u8::is_ascii_whitespace) {
            self.outbound.own().clear();
            let text = "data between <starttls/> and the TLS handshake";
            return Err(StreamError::with_text(StreamCondition::PolicyViolation, text).into());
        }
        self.input.clear();
        self.at = 0;
        self.flush().await?;
        self.handshake().await?;
        self.reader.restart();
        let info = self.transport.as_ref().and_then(Transport::tls_info).cloned();
        let info = info.ok_or(End::Gone(None))?;
        Ok(self.accept.handle(Input::TlsReady(info), self.outbound.own())?)
    }

    async fn handshake(&mut self) -> Result<(), End> {
        let certificates = self.shared.certificates.as_ref().ok_or(End::Gone(None))?;
        let transport = self.transport.take().ok_or(End::Gone(None))?;
        self.transport = Some(transport.accept_tls(&certificates.acceptor()).await.map_err(End::Tls)?);
        Ok(())
    }

    async fn load(&mut self, account: &BareJid) -> Result<Next, End> {
        // Without the registry there is no session to be had: it is said before a password is checked.
        let is_away = !self.shared.service.registry().is_available();
        let input = if is_away || self.shared.gate.is_account_barred(account.as_str(), Instant::now()) {
            Input::BackendAway
        } else {
            match self.shared.accounts.credentials(account).await {
                Ok(credentials) => Input::Credentials(credentials),
                Err(error) => {
                    warn!(%account, %error, "Credentials not loaded.");
                    Input::BackendAway
                }
            }
        };
        Ok(self.accept.handle(input, self.outbound.own())?)
    }

    /// PBKDF2 takes milliseconds: off the threads that move bytes, and no more of it at once than there are cores.
    async fn check(&mut self, check: PasswordCheck) -> Result<Next, End> {
        let verdict = match Arc::clone(&self.shared.password_checks).acquire_owned().await {
            Ok(turn) => spawn_blocking(move || {
                let holds = check.run();
                drop(turn);
                holds
            })
            .await
            .ok(),
            Err(_closed) => None,
        };
        Ok(self.accept.handle(verdict.map_or(Input::BackendAway, Input::PasswordChecked), self.outbound.own())?)
    }

    async fn failed(&mut self, account: Option<&BareJid>) -> Result<(), End> {
        let account = account.map(|account| account.as_str());
        info!(account, address = %self.origin.address, "Log-in failed.");
        self.shared.metrics.log_in_ended(LogInEnd::Failed);
        let now = Instant::now();
        self.shared.gate.failed(self.permit.key(), account, now);
        if self.shared.gate.is_address_barred(self.permit.key(), now) {
            self.shared.metrics.refused(Refusal::FailedLogIns);
            return Err(End::Error(Refusal::FailedLogIns.into()));
        }
        Ok(())
    }

    /// XEP-0198 §5.
    async fn resume(&mut self, account: &BareJid, previd: &str, h: u32) -> Result<Next, End> {
        let id = resumption::read(previd);
        // Kept in `self`: this future may be dropped while the session is on its way.
        self.fetching = id.and_then(|id| self.shared.resumable.request(account, id));
        let live = match &mut self.fetching {
            Some(fetching) => fetching.wait().await,
            None => None,
        };
        self.fetching = None;
        match (live, id) {
            (Some(live), _) => self.resume_here(live, h).await,
            (None, Some(id)) if self.shared.service.registry().are_shared() => {
                match take(&self.shared, account, id, h).await.unwrap_or(Taken::Away) {
                    Taken::Session(live, safe) => {
                        self.session = Some(Begun::Resumed(live));
                        self.resumed(safe)
                    }
                    Taken::Refused(safe) => self.no_such_session(account, safe),
                    Taken::TooHigh(error) => Err(End::TooHigh(error)),
                    Taken::Away => {
                        let text = "nobody can say what is left of the session for now";
                        Err(StreamError::with_text(StreamCondition::ResourceConstraint, text).into())
                    }
                }
            }
            (None, _) => {
                let ended = id.and_then(|id| self.shared.resumable.ended(account, id));
                self.no_such_session(account, ended)
            }
        }
    }

    async fn resume_here(&mut self, mut live: Box<Live>, h: u32) -> Result<Next, End> {
        let acknowledged = live.managed.acknowledged(h, live.session.service(), &live.inbox);
        let (shadow, safe) = (live.claim.shadow().cloned(), live.managed.will_resume(live.session.safe()));
        // Kept in `self`, whatever comes of it.
        self.session = Some(Begun::Resumed(live));
        if let Err(error) = acknowledged {
            // The mistake of this connection; the session waits for a better one.
            return Err(End::TooHigh(error));
        }
        if let Some(shadow) = shadow {
            shadow.revive();
            shadow.record_now(safe, RECORD).await;
        }
        match &mut self.session {
            Some(Begun::Resumed(live)) => {
                let h = live.managed.resumed(safe);
                self.resumed(h)
            }
            Some(Begun::Bound(_)) | None => Err(End::Gone(None)),
        }
    }

    fn resumed(&mut self, h: u32) -> Result<Next, End> {
        if let Some(Begun::Resumed(live)) = &self.session {
            debug!(full = %live.session.full(), address = %self.origin.address, "Session resumed.");
        }
        self.shared.metrics.resumed.inc();
        Ok(self.accept.handle(Input::Resumed(h), self.outbound.own())?)
    }

    fn no_such_session(&mut self, account: &BareJid, safe: Option<u32>) -> Result<Next, End> {
        debug!(%account, address = %self.origin.address, "No such session to resume.");
        Ok(self.accept.handle(Input::ResumeRefused(safe), self.outbound.own())?)
    }

    /// Begins the session, in a task that does not carry the memory of this one.
    fn hand_over(self) {
        let Self { shared, rules, origin, permit, transport, mut reader, input, at, mut outbound, session, .. } = self;
        let (Some(transport), Some(begun)) = (transport, session) else { return };
        shared.metrics.log_ins.inc();
        shared.metrics.log_in_seconds.observe(origin.accepted.elapsed().as_secs_f64());
        reader.set_limits(rules.limits.stanza);
        let input = Unread::ahead(input.get(at..).unwrap_or_default().to_vec());
        let pace = rules.limits.bytes_rate.map(|rate| Box::new(Pace::new(rate)));
        let tasks = shared.tasks.clone();
        let (session, inbox, managed, claim) = match begun {
            Begun::Bound(bound) => (bound.0, bound.1, None, None),
            Begun::Resumed(live) => {
                let Live { session, inbox, managed, claim } = *live;
                (session, inbox, Some(managed), Some(claim))
            }
        };
        // §5: what the client has not acknowledged goes first.
        for item in managed.iter().flat_map(|managed| managed.unacknowledged()) {
            match item {
                Item::Shared(envelope) => outbound.push_managed(Arc::clone(envelope)),
                Item::Own(bytes) => outbound.own().extend_from_slice(bytes),
            }
        }
        let connection = Connection {
            shared,
            transport,
            reader,
            session,
            inbox,
            outbound,
            managed,
            claim,
            permit,
            pace,
            input,
            stalled: None,
            timer: Timer::default(),
        };
        tasks.spawn(connection.run());
    }

    async fn end(mut self, end: End) {
        let metrics = &self.shared.metrics;
        let heard = match end {
            End::Error(error) => {
                debug!(address = %self.origin.address, %error, "No session.");
                metrics.log_in_ended(LogInEnd::StreamError);
                self.accept.fail(&error, self.outbound.own());
                true
            }
            End::Finished => {
                metrics.log_in_ended(LogInEnd::Gone);
                true
            }
            End::TooHigh(error) => {
                metrics.log_in_ended(LogInEnd::StreamError);
                nonza::write_handled_count_too_high(&error, self.outbound.own());
                self.accept.close(self.outbound.own());
                true
            }
            End::Gone(error) => {
                let error = error.as_ref().map(tracing::field::display);
                debug!(address = %self.origin.address, error, "Client gone before log-in.");
                metrics.log_in_ended(LogInEnd::Gone);
                false
            }
            End::Tls(error) => {
                debug!(address = %self.origin.address, %error, "TLS handshake failed.");
                metrics.log_in_ended(LogInEnd::Tls);
                false
            }
        };
        let fetched = self.fetching.as_mut().and_then(Fetching::stop);
        match self.session.take().or_else(|| fetched.map(Begun::Resumed)) {
            Some(Begun::Bound(bound)) => bound.0.end().await,
            Some(Begun::Resumed(live)) => {
                let shared = Arc::clone(&self.shared);
                self.shared.tasks.spawn(async move { live.wait(&shared).await });
            }
            None => {}
        }
        if heard && let Some(transport) = self.transport.take() {
            say_last_words(transport, &mut self.outbound, LAST_WORDS, drop, |_| {}).await;
        }
        self.shared.metrics.connections.dec();
    }
}

/// Bounds the time of what precedes negotiation.
pub(crate) const PROXY_HEADER_TIME: Duration = Duration::from_secs(5);
