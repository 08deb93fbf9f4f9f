//! What lies in Redis, all of it. Every key begins with the prefix of the settings, here `starling`.
//!
//! | key | type | content | written by | goes |
//! |---|---|---|---|---|
//! | `starling:{juliet@example.com}:s` | hash | resource → routing record (`record.rs`) | the session's instance; `settle` by whoever took its stream; `evict` by whoever cleans up | with the last session; 24 h after the last write |
//! | `starling:{juliet@example.com}:p` | hash | resource → presence (`record.rs`) | the same | the same |
//! | `starling:{juliet@example.com}:x:<stream>` | hash | the stream (`lua/open.lua`) | its owner; `take` by whoever resumes it | 24 h after the last write; 15 min after its end |
//! | `starling:index:{<instance>}` | sorted set | accounts that have, or had, sessions or streams there; score: number of the change | that instance, ahead of the session; `forget_account` | with the last account; 24 h after the instance's last renewal |
//! | `starling:{members}:instance:<instance>` | string | the lease: time of the renewal | that instance, each second | 4 s after the last renewal |
//! | `starling:{members}:instances` | set | instances that may have left something | those; `forget_instance` | 24 h after the last renewal of any |
//! | `starling:{members}:calm` | hash | `heard`: last renewal of any; `since`: when renewals began to come without a gap | every renewal | the same |
//! | `starling:{members}:duty:<instance>` | string | who cleans up behind it | whoever claims it first | after 60 s |
//! | `starling:here:<instance>:{<n>}` | string | nothing: that it is there says that the node has not lost its data (Cluster alone, one for each node) | that instance, each second | 24 h after the last renewal |
//!
//! What stands in braces is the hash tag: keys with the same are served by the same node of a cluster, so that a script may
//! use them together. An account's name may hold braces itself (RFC 7622 §3.3): they are percent-encoded, as is `%`, so that
//! the tag ends where the name does.
//!
//! The times are those of [`RedisTimes`](super::RedisTimes). Commands in use: `EVALSHA`, `EVAL`, `SCRIPT LOAD`, `HGET`,
//! `HSET`, `HDEL`, `HLEN`, `HMGET`, `HGETALL`, `GET`, `SET`, `DEL`, `EXISTS`, `PEXPIRE`, `PTTL`, `SADD`, `SREM`, `SMEMBERS`,
//! `ZADD`, `ZREM`, `ZSCORE`, `ZCARD`, `ZRANGE`, `TIME`, `CLIENT TRACKING`, `CLIENT CACHING`, `HELLO`, `AUTH`; in a cluster
//! also `CLUSTER SLOTS` and `ASKING`; of sentinels `SENTINEL GET-MASTER-ADDR-BY-NAME`.

use std::borrow::Cow;

use crate::{InstanceId, StreamId};

/// The hash tag of what belongs to all instances together.
const MEMBERS: &str = "members";

/// Names of keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: escape(prefix).into() }
    }

    pub(super) fn sessions(&self, account: &str) -> String {
        format!("{}:{{{}}}:s", self.prefix, escape(account))
    }

    pub(super) fn presence(&self, account: &str) -> String {
        format!("{}:{{{}}}:p", self.prefix, escape(account))
    }

    pub(super) fn stream(&self, account: &str, id: StreamId) -> String {
        format!("{}:{{{}}}:x:{id}", self.prefix, escape(account))
    }

    pub(super) fn index(&self, instance: InstanceId) -> String {
        format!("{}:index:{{{instance}}}", self.prefix)
    }

    pub(super) fn lease(&self, instance: InstanceId) -> String {
        format!("{}:{{{MEMBERS}}}:instance:{instance}", self.prefix)
    }

    pub(super) fn instances(&self) -> String {
        format!("{}:{{{MEMBERS}}}:instances", self.prefix)
    }

    pub(super) fn calm(&self) -> String {
        format!("{}:{{{MEMBERS}}}:calm", self.prefix)
    }

    pub(super) fn duty(&self, dead: InstanceId) -> String {
        format!("{}:{{{MEMBERS}}}:duty:{dead}", self.prefix)
    }

    pub(super) fn here(&self, instance: InstanceId, tag: &str) -> String {
        format!("{}:here:{instance}:{{{tag}}}", self.prefix)
    }

    /// The account whose sessions lie under this key; `None`: it is another kind of key.
    pub(super) fn account_of<'k>(&self, key: &'k [u8]) -> Option<Cow<'k, str>> {
        let inner = str::from_utf8(key).ok()?.strip_prefix(&*self.prefix)?.strip_prefix(":{")?.strip_suffix("}:s")?;
        unescape(inner)
    }
}

/// The part of an account's keys that says which node serves them.
pub(super) fn tag(account: &str) -> Cow<'_, str> {
    escape(account)
}

const ESCAPED: [(char, &str); 3] = [('%', "%25"), ('{', "%7B"), ('}', "%7D")];

fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '{', '}']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 4);
    for character in text.chars() {
        match ESCAPED.iter().find(|(plain, _)| *plain == character) {
            Some((_, code)) => escaped.push_str(code),
            None => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '{', '}']) {
        return Some(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, code)) = rest.split_once('%') {
        plain.push_str(before);
        let (character, _) =
            ESCAPED.iter().find(|(_, known)| code.starts_with(known.strip_prefix('%').unwrap_or(known)))?;
        plain.push(*character);
        rest = code.get(2..)?;
    }
    plain.push_str(rest);
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::slots;

    #[test]
    fn keys_of_an_account_share_a_slot_whatever_its_name_holds() {
        let keys = Keys::new("star{l}ing%");
        for account in ["juliet@example.com", "}@b", "{}@b", "a}{b@c", "%7D@b", "}{@b", "ü{@b", "%@b"] {
            let slot = slots::of_key(keys.sessions(account).as_bytes());
            assert_eq!(slots::of_key(keys.presence(account).as_bytes()), slot, "{account}");
            assert_eq!(slots::of_key(keys.stream(account, StreamId(7)).as_bytes()), slot, "{account}");
            assert_eq!(slots::of_tag(tag(account).as_bytes()), slot, "{account}");
            assert_eq!(keys.account_of(keys.sessions(account).as_bytes()).as_deref(), Some(account));
        }
        assert_ne!(keys.sessions("%7D@b"), keys.sessions("}@b"));
    }

    #[test]
    fn only_sessions_have_an_account() {
        let keys = Keys::new("starling");
        let others = [keys.presence("a@b"), keys.stream("a@b", StreamId(1)), keys.instances(), "x:{a@b}:s".to_owned()];
        for key in others {
            assert_eq!(keys.account_of(key.as_bytes()), None, "{key}");
        }
        for key in [&b"starling:{a%7@b}:s"[..], b"starling:{a%@b}:s", b"starling:{\xff}:s", b"starling:{a}b}:s%", b""] {
            assert_eq!(keys.account_of(key), None);
        }
    }
}
