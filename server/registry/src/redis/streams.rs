//! Records of streams.

use std::collections::HashMap;

use async_trait::async_trait;
use redis::Value;
use starling_xmpp::jid::{BareJid, bare_str};

use super::{
    RedisRegistry,
    config::millis,
    local::Gone,
    record::{pack, unpack, unpack_presence},
    scripts,
    values::{bytes, fields, int, items},
    wire::{Arguments, Failure, Request, all_of},
};
use crate::{Error, Fence, InstanceId, SessionId, StreamId, StreamRecord, StreamSave, StreamState, Streams, Update};

#[async_trait]
impl Streams for RedisRegistry {
    fn are_shared(&self) -> bool {
        true
    }

    async fn open_stream(&self, record: &StreamRecord) -> Result<(), Error> {
        let core = &*self.core;
        let update = Update::Stream(Some(record.id));
        let Some(changed) = core.local.update(&record.full, record.session, update) else {
            return Ok(());
        };
        let unsure = core.unsure(&changed.record, false);
        let mut arguments = Arguments::new()
            .text(record.full.resource())
            .bytes(record.session.0.to_be_bytes())
            .bytes(core.local.instance.0.to_be_bytes())
            .bytes(pack(&changed.record, changed.change))
            .text(record.owner)
            .text(record.fence.0)
            .text(millis(core.ground.times.expiry))
            .text("resource")
            .text(record.full.resource())
            .text("session")
            .text(record.session)
            .text("owner")
            .text(record.owner)
            .text("previous")
            .text(record.previous.map(|previous| previous.to_string()).unwrap_or_default())
            .text("fence")
            .text(record.fence.0)
            .text("seconds")
            .text(record.seconds)
            .text("change")
            .text(changed.change);
        let whole = StreamSave { h: Some(record.h), state: Some(record.state), details: Some(record.details.clone()) };
        arguments = with_save(arguments, &whole);
        let account = bare_str(&record.full);
        let (sessions, stream) = (core.ground.keys.sessions(account), core.ground.keys.stream(account, record.id));
        let opened = core.one(Request::script(&scripts::OPEN, &[&sessions, &stream], arguments)).await?;
        core.has_changed(account);
        if int(&opened) == Some(2) {
            return Err(Error::Away("the session was lost, and is announced again".to_owned()));
        }
        unsure.settle();
        Ok(())
    }

    async fn save_streams(&self, saves: &[(&BareJid, StreamId, Fence, StreamSave)]) -> Result<Vec<bool>, Error> {
        let core = &*self.core;
        let save = |(account, id, fence, save): &(&BareJid, StreamId, Fence, StreamSave)| {
            let arguments = Arguments::new()
                .text(core.local.instance)
                .text(fence.0)
                .text(core.local.next_change())
                .text(millis(core.ground.times.expiry));
            let key = core.ground.keys.stream(account.as_str(), *id);
            Request::script(&scripts::SAVE, &[&key], with_save(arguments, save))
        };
        let replies = core.run(saves.iter().map(save).collect()).await;
        replies.into_iter().map(|reply| core.was_done(reply.result)).collect()
    }

    async fn take_stream(&self, account: &BareJid, id: StreamId) -> Result<Option<StreamRecord>, Error> {
        let core = &*self.core;
        let arguments = Arguments::new().text(core.local.instance).text(millis(core.ground.times.expiry));
        let key = core.ground.keys.stream(account.as_str(), id);
        let take = Request::script(&scripts::TAKE, &[&key], arguments);
        let enter = core.enter(account.as_str(), core.local.next_change());
        let mut replies = core.run(vec![enter, take]).await.into_iter();
        let (entered, taken) = (replies.next(), replies.next());
        if let Some(Err(failure)) = entered.map(|reply| reply.result) {
            return Err(failure.into());
        }
        let taken = self.read_stream(account, id, taken.map_or(Ok(Value::Nil), |reply| reply.result))?;
        match taken.as_ref().filter(|taken| taken.owner == core.local.instance) {
            Some(taken) => {
                // Until it is settled, it must be found by whoever cleans up behind us.
                let gone = Gone { full: taken.full.clone(), id: taken.session, stream: Some(id) };
                core.local.claim(account.as_str(), taken.session).lingers = Some((core.ground.times.grace(), gone));
            }
            None => core.local.mark_idle(account.as_str()),
        }
        Ok(taken)
    }

    async fn settle_stream(&self, record: &StreamRecord) -> Result<bool, Error> {
        let core = &*self.core;
        let account = record.full.to_bare();
        let _turn = core.local.turn(&record.full).await;
        let mut claim = core.local.claim(account.as_str(), record.session);
        let change = core.local.next_change();
        let arguments = Arguments::new()
            .text(record.full.resource())
            .bytes(record.session.0.to_be_bytes())
            .bytes(core.local.instance.0.to_be_bytes())
            .bytes(change.to_be_bytes())
            .text(record.owner)
            .text(record.fence.0)
            .text(millis(core.ground.times.expiry));
        let keys = &core.ground.keys;
        let (sessions, presence) = (keys.sessions(account.as_str()), keys.presence(account.as_str()));
        let stream = keys.stream(account.as_str(), record.id);
        let settle = Request::script(&scripts::SETTLE, &[&sessions, &presence, &stream], arguments);
        // Without an answer, the session may be here, and its caller asks again: until then it is no ghost.
        let gone = Gone { full: record.full.clone(), id: record.session, stream: Some(record.id) };
        claim.lingers = Some((core.ground.times.grace(), gone));
        let mut replies = core.run(vec![core.enter(account.as_str(), change), settle]).await.into_iter();
        let (entered, settled) = (replies.next(), replies.next());
        if let Some(Err(failure)) = entered.map(|reply| reply.result) {
            return Err(failure.into());
        }
        let settled = settled.map_or(Ok(Value::Nil), |reply| reply.result)?;
        core.has_changed(account.as_str());
        claim.lingers = None;
        let [held, presence] = items(&settled) else {
            core.local.mark_idle(account.as_str());
            return Ok(false);
        };
        let resource = record.full.resource().as_str().as_bytes();
        let Some(mut session) = bytes(held).and_then(|held| unpack(&account, resource, held)) else {
            core.found_garbage(account.as_str());
            return Ok(false);
        };
        session.presence = bytes(presence).and_then(|presence| unpack_presence(session.id, presence));
        core.local.insert(session);
        drop(claim);
        Ok(true)
    }

    async fn close_stream(&self, account: &BareJid, id: StreamId, fence: Fence, h: u32) -> Result<bool, Error> {
        let core = &*self.core;
        let arguments =
            Arguments::new().text(core.local.instance).text(fence.0).text(h).text(millis(core.ground.times.ended));
        let key = core.ground.keys.stream(account.as_str(), id);
        let closed = core.was_done(core.one(Request::script(&scripts::CLOSE, &[&key], arguments)).await)?;
        core.local.mark_idle(account.as_str());
        Ok(closed)
    }

    async fn stream(&self, account: &BareJid, id: StreamId) -> Result<Option<StreamRecord>, Error> {
        let key = self.core.ground.keys.stream(account.as_str(), id);
        let value = self.core.one(Request::plain(&key, all_of(&key))).await;
        self.read_stream(account, id, value)
    }
}

impl RedisRegistry {
    fn read_stream(
        &self,
        account: &BareJid,
        id: StreamId,
        value: Result<Value, Failure>,
    ) -> Result<Option<StreamRecord>, Error> {
        let Some(value) = self.core.ours(value)? else { return Ok(None) };
        let fields = fields(&value);
        let record = decode(account, id, &fields);
        if record.is_none() && !fields.is_empty() {
            self.core.found_garbage("a stream");
        }
        Ok(record)
    }
}

impl super::core::Core {
    /// What a script says that answers by yes or no.
    fn was_done(&self, result: Result<Value, Failure>) -> Result<bool, Error> {
        Ok(self.ours(result)?.is_some_and(|value| int(&value) == Some(1)))
    }
}

fn with_save(mut arguments: Arguments, save: &StreamSave) -> Arguments {
    if let Some(h) = save.h {
        arguments = arguments.text("h").text(h);
    }
    if let Some(state) = save.state {
        let (state, until) = match state {
            StreamState::Live => ("live", 0),
            StreamState::Detached { until } => ("detached", until),
            StreamState::Ended => ("ended", 0),
        };
        arguments = arguments.text("state").text(state).text("until").text(until);
    }
    if let Some(details) = &save.details {
        arguments = arguments.text("details").bytes(details.as_slice());
    }
    arguments
}

/// The stream that a hash holds; fields that are not known are ignored.
fn decode(account: &BareJid, id: StreamId, fields: &[(&[u8], &[u8])]) -> Option<StreamRecord> {
    let fields: HashMap<&[u8], &[u8]> = fields.iter().copied().collect();
    let field = |name: &str| fields.get(name.as_bytes()).copied();
    let text = |name: &str| str::from_utf8(field(name)?).ok();
    let instance = |name: &str| u64::from_str_radix(text(name)?, 16).ok().map(InstanceId);
    let previous = match text("previous")? {
        "" => None,
        _ => Some(instance("previous")?),
    };
    let state = match text("state")? {
        "live" => StreamState::Live,
        "detached" => StreamState::Detached { until: text("until")?.parse().ok()? },
        "ended" => StreamState::Ended,
        _ => return None,
    };
    Some(StreamRecord {
        id,
        full: account.with_resource_str(text("resource")?).ok()?,
        session: SessionId(u128::from_str_radix(text("session")?, 16).ok()?),
        owner: instance("owner")?,
        previous,
        fence: Fence(text("fence")?.parse().ok()?),
        state,
        h: text("h")?.parse().ok()?,
        seconds: text("seconds")?.parse().ok()?,
        details: field("details")?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_is_no_stream_and_no_panic(
            values in proptest::collection::vec(any::<Vec<u8>>(), 10),
            text in "[0-9a-f]{0,40}|live|ended|detached|",
        ) {
            let names = ["resource", "session", "owner", "previous", "fence", "seconds", "h", "state", "until", "details"];
            let account: BareJid = "juliet@example.com".parse().unwrap();
            let garbage: Vec<_> = names.iter().zip(&values).map(|(name, value)| (name.as_bytes(), &value[..])).collect();
            decode(&account, StreamId(1), &garbage);
            let same: Vec<_> = names.iter().map(|name| (name.as_bytes(), text.as_bytes())).collect();
            decode(&account, StreamId(1), &same);
        }
    }
}
