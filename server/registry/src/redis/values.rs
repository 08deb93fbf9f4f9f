//! What Redis answers, read leniently: RESP2 and RESP3 say the same thing in different forms, and what is not expected is
//! nothing.

use redis::Value;

/// A number.
pub(super) fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

/// The numbers of a list.
pub(super) fn ints(value: &Value) -> Vec<i64> {
    items(value).iter().filter_map(int).collect()
}

/// Bytes.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// The texts of a list or set.
pub(super) fn texts(value: &Value) -> Vec<String> {
    items(value).iter().filter_map(bytes).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

/// What a list or set holds.
pub(super) fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        _ => &[],
    }
}

/// The fields of a hash and their values, as a map or a list in turn.
pub(super) fn fields(value: &Value) -> Vec<(&[u8], &[u8])> {
    match value {
        Value::Map(pairs) => pairs.iter().filter_map(|(field, value)| Some((bytes(field)?, bytes(value)?))).collect(),
        value => {
            let pairs = items(value).as_chunks::<2>().0;
            pairs.iter().filter_map(|[field, value]| Some((bytes(field)?, bytes(value)?))).collect()
        }
    }
}
