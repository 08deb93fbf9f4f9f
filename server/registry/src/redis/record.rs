//! How a session's record and its presence are packed. Numbers are big-endian; offsets are in bytes.
//!
//! ```text
//!   routing record (key s)                                    presence (key p)
//!    0  format: 1                                              0  format: 1
//!    1  session, 16                                            1  session, 16
//!   17  instance, 8                                           17  number of the change, 8
//!   25  number of the change, 8                               25  the stanza, to the end
//!   33  flags
//!   34  priority, 1 (0 where there is none)
//!   35  stream, 16, if its flag is set
//!       length, 4, and name of the active list, if its flag is set
//!       … what a later release adds
//! ```
//!
//! Scripts compare and change the parts with a fixed place, and leave the rest as it is. Flags and trailing bytes that are not
//! known are ignored by readers; a later release may add some, and may not change what is there. Presence lies apart, so that
//! a mere change of status leaves the routing record, and the caches of it, alone. It counts for the session that it names.
//!
//! The *number of the change* rises with each change that an instance makes: what arrives late, by a connection that was
//! given up, does not undo what came after it.

use std::sync::Arc;

use starling_xmpp::jid::BareJid;

use crate::{InstanceId, SessionId, SessionRecord, StreamId};

const FORMAT: u8 = 1;

const ROSTER: u8 = 1;
const CARBONS: u8 = 2;
const BLOCK_LIST: u8 = 4;
const PRIORITY: u8 = 8;
const STREAM: u8 = 16;
const ACTIVE_LIST: u8 = 32;

/// Packs what routes to a session.
pub(super) fn pack(record: &SessionRecord, change: u64) -> Vec<u8> {
    let flag = |set, flag| if set { flag } else { 0 };
    // A stanza is shorter than 4 GiB, and so is a name in it.
    let list = record.active_list.as_deref().and_then(|list| Some((u32::try_from(list.len()).ok()?, list)));
    let flags = flag(record.roster, ROSTER)
        | flag(record.carbons, CARBONS)
        | flag(record.block_list, BLOCK_LIST)
        | flag(record.priority.is_some(), PRIORITY)
        | flag(record.stream.is_some(), STREAM)
        | flag(list.is_some(), ACTIVE_LIST);
    let mut packed = Vec::with_capacity(64);
    packed.push(FORMAT);
    packed.extend(record.id.0.to_be_bytes());
    packed.extend(record.instance.0.to_be_bytes());
    packed.extend(change.to_be_bytes());
    packed.push(flags);
    packed.extend(record.priority.unwrap_or_default().to_be_bytes());
    if let Some(stream) = record.stream {
        packed.extend(stream.0.to_be_bytes());
    }
    if let Some((length, list)) = list {
        packed.extend(length.to_be_bytes());
        packed.extend(list.as_bytes());
    }
    packed
}

/// The session that was packed, without its presence. `None`: this is no record, or the resource is none.
pub(super) fn unpack(account: &BareJid, resource: &[u8], packed: &[u8]) -> Option<SessionRecord> {
    let resource = str::from_utf8(resource).ok()?;
    let full = account.with_resource_str(resource).ok().filter(|full| full.resource().as_str() == resource)?;
    let mut rest = packed;
    let [FORMAT] = take(&mut rest)? else {
        return None;
    };
    let id = SessionId(u128::from_be_bytes(take(&mut rest)?));
    let instance = InstanceId(u64::from_be_bytes(take(&mut rest)?));
    let [_change] = [u64::from_be_bytes(take(&mut rest)?)];
    let [flags] = take(&mut rest)?;
    let priority = i8::from_be_bytes(take(&mut rest)?);
    let has = |flag| flags & flag != 0;
    let mut record = SessionRecord::new(full, id, instance);
    record.roster = has(ROSTER);
    record.carbons = has(CARBONS);
    record.block_list = has(BLOCK_LIST);
    record.priority = has(PRIORITY).then_some(priority);
    if has(STREAM) {
        record.stream = Some(StreamId(u128::from_be_bytes(take(&mut rest)?)));
    }
    if has(ACTIVE_LIST) {
        let length = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).ok()?;
        record.active_list = Some(str::from_utf8(rest.get(..length)?).ok()?.into());
    }
    Some(record)
}

/// Packs the presence of a session.
pub(super) fn pack_presence(id: SessionId, change: u64, stanza: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(25 + stanza.len());
    packed.push(FORMAT);
    packed.extend(id.0.to_be_bytes());
    packed.extend(change.to_be_bytes());
    packed.extend(stanza);
    packed
}

/// The presence that was packed for this session. `None`: it is none, or another session's.
pub(super) fn unpack_presence(id: SessionId, packed: &[u8]) -> Option<Arc<[u8]>> {
    let mut rest = packed;
    let [FORMAT] = take(&mut rest)? else {
        return None;
    };
    let held = SessionId(u128::from_be_bytes(take(&mut rest)?));
    let [_change] = [u64::from_be_bytes(take(&mut rest)?)];
    (held == id).then(|| rest.into())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account() -> BareJid {
        "juliet@example.com".parse().unwrap()
    }

    prop_compose! {
        fn records()(
            ids in any::<(u128, u64)>(),
            resource in "[a-zA-Z0-9{}%:. äß€]{1,20}[a-z]",
            priority in any::<Option<i8>>(),
            flags in any::<[bool; 3]>(),
            list in proptest::option::of("\\PC{0,40}"),
            stream in any::<Option<u128>>(),
        ) -> SessionRecord {
            let full = account().with_resource_str(&resource).unwrap();
            let mut record = SessionRecord::new(full, SessionId(ids.0), InstanceId(ids.1));
            record.priority = priority;
            [record.roster, record.carbons, record.block_list] = flags;
            record.active_list = list.map(Into::into);
            record.stream = stream.map(StreamId);
            record
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_whatever_a_later_release_adds(
            record in records(),
            change in any::<u64>(),
            later in any::<Vec<u8>>(),
            later_flags in any::<u8>(),
        ) {
            let mut packed = pack(&record, change);
            packed.extend(later);
            packed[33] |= later_flags & !63;
            let resource = record.full.resource().as_str().to_owned();
            prop_assert_eq!(unpack(&account(), resource.as_bytes(), &packed), Some(record));
        }

        #[test]
        fn what_is_cut_is_no_record(record in records(), cut in 1_usize..100) {
            let packed = pack(&record, 1);
            let shorter = &packed[..packed.len().saturating_sub(cut)];
            prop_assert_eq!(unpack(&account(), record.full.resource().as_str().as_bytes(), shorter), None);
        }

        #[test]
        fn garbage_is_no_panic(resource in any::<Vec<u8>>(), mut packed in any::<Vec<u8>>(), as_ours in any::<bool>()) {
            if let Some(format) = packed.first_mut().filter(|_| as_ours) {
                *format = FORMAT;
            }
            unpack(&account(), &resource, &packed);
            unpack(&account(), b"balcony", &packed);
            unpack_presence(SessionId(1), &packed);
        }

        #[test]
        fn presence_counts_for_its_session_alone(id in any::<u128>(), stanza in any::<Vec<u8>>()) {
            let packed = pack_presence(SessionId(id), 7, &stanza);
            let unpacked = unpack_presence(SessionId(id), &packed);
            prop_assert_eq!(unpacked.as_deref(), Some(&stanza[..]));
            prop_assert_eq!(unpack_presence(SessionId(id ^ 1), &packed), None);
        }
    }

    #[test]
    fn places_stay_where_scripts_look_for_them() {
        let mut record = SessionRecord::new("juliet@example.com/b".parse().unwrap(), SessionId(1), InstanceId(2));
        record.priority = Some(-3);
        record.stream = Some(StreamId(4));
        record.active_list = Some("x".into());
        let expected = [
            &[1][..],
            &1_u128.to_be_bytes(),
            &2_u64.to_be_bytes(),
            &3_u64.to_be_bytes(),
            &[8 | 16 | 32, 253],
            &4_u128.to_be_bytes(),
            &[0, 0, 0, 1, b'x'],
        ];
        assert_eq!(pack(&record, 3), expected.concat());
        assert_eq!(
            pack_presence(SessionId(1), 3, b"<p/>"),
            [&[1][..], &1_u128.to_be_bytes(), &3_u64.to_be_bytes(), b"<p/>"].concat()
        );
    }
}
