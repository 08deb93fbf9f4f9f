//! The end of a session for good: what is left for its client is written, or goes where it can be had later.

use std::sync::Arc;

use starling_link::{Inbox, Parcel};
use starling_session::{Service, Session, moving::Returning};
use starling_stream::Transport;
use starling_xml::{Frame, Reader};
use starling_xmpp::acks::nonza::{self, Nonza};

use crate::{
    closing::say_last_words,
    connection::{END_OF_STREAM, End},
    managed::{Item, Managed},
    outbound::Outbound,
    server::Shared,
};

/// A connection whose session ends for good.
pub(crate) struct Finished<'c> {
    pub(crate) shared: &'c Shared,
    pub(crate) transport: Transport,
    pub(crate) reader: Reader,
    pub(crate) inbox: Inbox,
    pub(crate) outbound: Outbound,
    pub(crate) managed: Option<Box<Managed>>,
}

impl Finished<'_> {
    /// What the client can still take is written, and what it still acknowledges is heard; the rest goes where it can be
    /// had later.
    pub(crate) async fn finish(self, session: Session, end: &End) {
        let Self { shared, transport, mut reader, mut inbox, mut outbound, mut managed } = self;
        let service = Arc::clone(session.service());
        let mut returning = Returning::default();
        let speaks = !matches!(end, End::Gone | End::Requested(_));
        let is_managed = managed.is_some();
        // When the server stops, nobody logs in before all is settled: there is time to hear what the client has.
        if !(speaks && shared.stop.is_cancelled()) {
            return_all(&service, managed.take(), &mut returning);
        }
        if !speaks {
            outbound.unwritten().for_each(|envelope| returning.push(&service, &envelope));
        }
        // From here on its senders are told that nobody is there. What they sent until now goes before what they send
        // from now on: to the client, or to the store, with nothing waited for in between.
        session.detach();
        inbox.close();
        while let Some(parcel) = inbox.try_recv() {
            let Parcel::Stanza(envelope) = parcel else { continue };
            match &mut managed {
                Some(managed) => {
                    managed.sent(Arc::clone(&envelope));
                    outbound.push_managed(envelope);
                }
                None if speaks && !is_managed => outbound.push(envelope),
                None => returning.push(&service, &envelope),
            }
        }
        returning.settled(&service).await;
        session.end().await;
        if speaks {
            if managed.is_some() {
                nonza::write_request(outbound.own());
            }
            match end {
                End::Error(error) => error.write(outbound.own()),
                End::TooHigh(error) => nonza::write_handled_count_too_high(error, outbound.own()),
                End::Finished | End::Gone | End::Requested(_) => {}
            }
            outbound.own().extend_from_slice(END_OF_STREAM);
            let taken = |envelope| service.acknowledged(&envelope);
            let heard = |bytes: &[u8]| {
                let Some(managed) = &mut managed else { return };
                let mut rest = bytes;
                while let Ok(Some(frame)) = reader.read(&mut rest) {
                    if let Frame::Element(element) = frame
                        && let Ok(Some(Nonza::Answer { h })) = nonza::parse(&element)
                    {
                        // One that is too high acknowledges nothing.
                        managed.acknowledged(h, &service, &inbox).ok();
                    }
                }
            };
            let time = shared.closing_time();
            say_last_words(transport, &mut outbound, time, taken, heard).await;
        }
        return_all(&service, managed, &mut Returning::default());
        outbound.unwritten().for_each(|envelope| service.returned(&envelope));
    }
}

/// What a client that manages its stream has not acknowledged, oldest first.
fn return_all(service: &Arc<Service>, managed: Option<Box<Managed>>, returning: &mut Returning) {
    let Some(mut managed) = managed else { return };
    for item in managed.drain() {
        if let Item::Shared(envelope) = item {
            returning.push(service, &envelope);
        }
    }
}
