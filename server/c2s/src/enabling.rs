//! Elements of stream management from a logged-in client (XEP-0198 §3, §4).

use std::{sync::Arc, time::Instant};

use starling_link::Inbox;
use starling_registry::{Fence, StreamId, StreamRecord, StreamState};
use starling_session::Session;
use starling_xml::RawElement;
use starling_xmpp::{
    Random, SystemRandom,
    acks::nonza::{self, Nonza},
    error::{Condition, StreamCondition, StreamError},
};

use crate::{
    connection::End,
    managed::Managed,
    resumption::{self, Claim},
    server::Shared,
};

/// What such an element acts on.
pub(crate) struct Stream<'c> {
    pub(crate) shared: &'c Arc<Shared>,
    pub(crate) session: &'c Session,
    pub(crate) inbox: &'c Inbox,
    pub(crate) managed: &'c mut Option<Box<Managed>>,
    pub(crate) claim: &'c mut Option<Claim>,
}

impl Stream<'_> {
    pub(crate) fn handle(&mut self, element: &RawElement<'_>, out: &mut Vec<u8>) -> Result<(), End> {
        let nonza = match nonza::parse(element) {
            Ok(nonza) => nonza,
            Err(error) => match error.failed() {
                Some(condition) => {
                    nonza::write_failed(condition, None, out);
                    return Ok(());
                }
                None => return Err(End::Error(StreamError::from(error))),
            },
        };
        match (nonza, &mut *self.managed) {
            (Some(Nonza::Enable { resume, max }), None) => self.enable(resume, max, out),
            (Some(Nonza::Request), Some(managed)) => managed.requested(Instant::now()),
            (Some(Nonza::Answer { h }), Some(managed)) => {
                managed.acknowledged(h, self.session.service(), self.inbox).map_err(End::TooHigh)?;
            }
            // §3: once per stream.
            (Some(Nonza::Enable { .. }), Some(_)) => {
                let error = StreamError::with_text(StreamCondition::PolicyViolation, "the stream is managed already");
                return Err(End::Error(error));
            }
            // §5: in the place of bind alone.
            (Some(Nonza::Request | Nonza::Answer { .. }), None) | (Some(Nonza::Resume { .. }), _) => {
                nonza::write_failed(Condition::UnexpectedRequest, None, out);
            }
            (None, _) => {}
        }
        Ok(())
    }

    fn enable(&mut self, resume: bool, max: Option<u32>, out: &mut Vec<u8>) {
        let seconds = self.shared.rules.load().limits.resume_seconds;
        let seconds = max.map_or(seconds, |max| max.min(seconds));
        if !resume || seconds == 0 {
            *self.managed = Some(Box::new(Managed::new(None, self.session.handled())));
            nonza::write_enabled(None, out);
            return;
        }
        let mut id = [0; 16];
        SystemRandom.fill(&mut id);
        let id = u128::from_be_bytes(id);
        let mut managed = Managed::new(Some(id), self.session.handled());
        let shadow = self.shared.service.registry().are_shared().then(|| {
            let record = StreamRecord {
                id: StreamId(id),
                full: self.session.full().clone(),
                session: self.session.record().id,
                owner: self.shared.service.instance(),
                previous: None,
                fence: Fence(1),
                state: StreamState::Live,
                h: 0,
                seconds,
                details: Vec::new(),
            };
            self.shared.recorder.shadow(record, self.session.details(0), false)
        });
        if let Some(shadow) = &shadow {
            managed.record_by(Box::new(Arc::clone(shadow)));
        }
        *self.claim = Some(self.shared.resumable.claim(id, self.session, seconds, shadow));
        *self.managed = Some(Box::new(managed));
        nonza::write_enabled(Some((&resumption::write(id), seconds)), out);
    }
}
