//! What the server writes into a message: who sent it, its id (XEP-0359), when it came in (XEP-0203).

use std::time::SystemTime;

use memchr::{memmem, memrchr};
use minidom::rxml::NcName;
use starling_store::messages::MessageId;
use starling_xml::{Limits, RawElement, Scope, Writer, parse, restamp};

use crate::offline::time;

const STANZA_IDS: &str = "urn:xmpp:sid:0";

/// The stanza as it goes to others (portable form): with the sender's address (RFC 6120 §8.1.2.1), and its stream's
/// language if it has none (§8.1.5).
pub(crate) fn stamp(raw: &RawElement<'_>, from: &str, lang: Option<&str>, out: &mut Vec<u8>) {
    match lang {
        Some(lang) if raw.lang().is_none() => restamp(raw, &[("from", Some(from)), ("xml:lang", Some(lang))], out),
        _ => restamp(raw, &[("from", Some(from))], out),
    }
}

/// The same for a message: without ids that claim to be of a domain that `is_ours` and, if it is kept, with its own.
pub(crate) fn stamp_message(
    raw: &RawElement<'_>,
    from: &str,
    lang: Option<&str>,
    kept: Option<(&str, MessageId)>,
    is_ours: impl Fn(&str) -> bool,
    out: &mut Vec<u8>,
) {
    if memmem::find(raw.as_str().as_bytes(), STANZA_IDS.as_bytes()).is_none() || !strip(raw, from, lang, is_ours, out) {
        stamp(raw, from, lang, out);
    }
    let Some((account, id)) = kept else { return };
    append(out, |out| {
        out.extend_from_slice(b"<stanza-id xmlns='urn:xmpp:sid:0' by='");
        starling_xml::escape::attribute(account, out);
        out.extend_from_slice(b"' id='");
        push_hex(id.0, out);
        out.extend_from_slice(b"'/>");
    });
}

fn push_hex(id: u128, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for at in (0..32).rev() {
        let digit = (id >> (4 * at)) & 0xf;
        out.extend(DIGITS.get(digit as usize));
    }
}

/// XEP-0359 §6: what claims to be an id of ours is not handed on. `false`: there is none, and nothing was written.
fn strip(
    raw: &RawElement<'_>,
    from: &str,
    lang: Option<&str>,
    is_ours: impl Fn(&str) -> bool,
    out: &mut Vec<u8>,
) -> bool {
    let forged = |name: &str, namespace: &str, by: Option<&str>| {
        let by = by.and_then(|by| starling_xmpp::jid::parse(by).ok());
        name == "stanza-id" && namespace == STANZA_IDS && by.is_none_or(|by| is_ours(by.domain().as_str()))
    };
    if !raw.children().any(|child| forged(child.name(), child.namespace(), child.attribute("by").as_deref())) {
        return false;
    }
    let Ok(mut tree) = raw.to_tree() else { return false };
    while tree.remove_child("stanza-id", STANZA_IDS).is_some() {}
    for child in raw.children().filter(|child| child.is("stanza-id", STANZA_IDS)) {
        if !forged(child.name(), child.namespace(), child.attribute("by").as_deref()) {
            let mut kept = minidom::Element::builder("stanza-id", STANZA_IDS);
            for name in ["by", "id"] {
                if let (Ok(key), Some(value)) = (NcName::try_from(name), child.attribute(name)) {
                    kept = kept.attr(key, value.into_owned());
                }
            }
            tree.append_child(kept.build());
        }
    }
    let mut text = Vec::with_capacity(raw.as_str().len());
    Writer::new(&mut text, &Scope::client()).tree(&tree);
    let limits = Limits { stanza_bytes: usize::MAX, ..Limits::default() };
    let stripped = std::str::from_utf8(&text).ok().and_then(|text| parse(text, &Scope::client(), limits).ok());
    let Some(stripped) = stripped else { return false };
    stamp(&stripped.as_raw(), from, lang, out);
    true
}

/// When the message came in, as a server that kept it says (XEP-0203 §4). `None`: `stanza` is no element.
pub(crate) fn delay(domain: &str, id: MessageId, stanza: &mut Vec<u8>) -> Option<()> {
    append(stanza, |out| {
        out.extend_from_slice(b"<delay xmlns='urn:xmpp:delay' from='");
        starling_xml::escape::attribute(domain, out);
        out.extend_from_slice(b"' stamp='");
        out.extend_from_slice(date_time(time(id)).as_bytes());
        out.extend_from_slice(b"'/>");
    })
}

/// Adds to the end of an element's content.
fn append(stanza: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
    if stanza.ends_with(b"/>") {
        let name = name(stanza)?.to_owned();
        stanza.truncate(stanza.len() - 2);
        stanza.push(b'>');
        write(stanza);
        stanza.extend_from_slice(b"</");
        stanza.extend_from_slice(&name);
        stanza.push(b'>');
    } else {
        // In a closing tag, nothing but its end can be `<`.
        let closing = stanza.split_off(memrchr(b'<', stanza)?);
        write(stanza);
        stanza.extend_from_slice(&closing);
    }
    Some(())
}

fn name(stanza: &[u8]) -> Option<&[u8]> {
    let rest = stanza.strip_prefix(b"<")?;
    let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>'))?;
    rest.get(..end)
}

/// XEP-0082 §3.2, in UTC, with milliseconds.
pub(crate) fn date_time(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(i64::try_from(days).unwrap_or_default());
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The date of a day since 1970-01-01: eras of 400 years, which begin in March, have all the same number of days.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ID: MessageId = MessageId(0x0123_4567_89ab_cdef_0000_0000_0000_00ff);

    fn stamped(stanza: &str) -> String {
        let element = parse(stanza, &Scope::client(), Limits::default()).unwrap();
        let mut out = Vec::new();
        let is_ours = |domain: &str| domain == "example.com";
        stamp_message(&element.as_raw(), "a@example.com/x", None, Some(("b@example.com", ID)), is_ours, &mut out);
        String::from_utf8(out).unwrap()
    }

    const OURS: &str = "<stanza-id xmlns='urn:xmpp:sid:0' by='b@example.com' id='0123456789abcdef00000000000000ff'/>";

    #[test]
    fn xep0359_3_the_id_is_the_last_child_whatever_form_the_stanza_has() {
        assert_eq!(stamped("<message/>"), format!("<message from='a@example.com/x'>{OURS}</message>"));
        let spaced = "<message to='c@d'><body>1 &lt; 2</body></message >";
        let expected = format!("<message to='c@d' from='a@example.com/x'><body>1 &lt; 2</body>{OURS}</message >");
        assert_eq!(stamped(spaced), expected);
    }

    #[test]
    fn xep0359_6_ids_that_claim_to_be_ours_are_taken_out_and_others_stay() {
        for by in ["b@example.com", "example.com", "B@EXAMPLE.com", "b@example.com/r"] {
            let forged =
                format!("<message><stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='1'/><body>x</body></message>");
            let out = stamped(&forged);
            assert_eq!(out.matches("<stanza-id").count(), 1, "{out}");
            assert!(out.contains(OURS) && out.contains("<body>x</body>"), "{out}");
        }
        let other = "<message><stanza-id xmlns='urn:xmpp:sid:0' by='room@elsewhere' id='1'/></message>";
        assert_eq!(stamped(other).matches("<stanza-id").count(), 2);
        let both = "<message><stanza-id xmlns='urn:xmpp:sid:0' by='room@elsewhere' id='7'/>\
                    <stanza-id xmlns='urn:xmpp:sid:0' by='example.com' id='1'/></message>";
        let out = stamped(both);
        assert_eq!(out.matches("<stanza-id").count(), 2, "{out}");
        assert!(out.contains("room@elsewhere") && out.contains("'7'") && !out.contains("'1'"), "{out}");
    }

    #[test]
    fn xep0203_4_a_delay_says_who_kept_it_and_since_when() {
        let mut stanza = b"<message><body/></message>".to_vec();
        let id = MessageId::new(1_031_699_305_000, 0, 1);
        delay("example.com", id, &mut stanza).unwrap();
        let expected = "<message><body/><delay xmlns='urn:xmpp:delay' from='example.com' \
                        stamp='2002-09-10T23:08:25.000Z'/></message>";
        assert_eq!(String::from_utf8(stanza).unwrap(), expected);
    }

    #[test]
    fn xep0082_dates_are_right_around_leap_days() {
        let at = |seconds| date_time(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(at(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_199_000), "2024-02-29T23:59:59.000Z");
        assert_eq!(at(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }
}
