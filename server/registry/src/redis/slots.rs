//! Hash slots: which part of a cluster serves a key (CRC16 of its hash tag, as the cluster specification has it).

/// How many there are.
pub(super) const COUNT: u16 = 16_384;

/// The slot of a key: of what stands between its first `{` and the `}` behind it, or of all of it where that is nothing.
pub(super) fn of_key(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let inner = key.get(open + 1..)?;
        let close = inner.iter().position(|byte| *byte == b'}')?;
        inner.get(..close)
    });
    of_tag(tag.filter(|tag| !tag.is_empty()).unwrap_or(key))
}

/// The slot of a hash tag.
pub(super) fn of_tag(tag: &[u8]) -> u16 {
    let step = |crc: u16, byte: &u8| {
        let index = usize::from((crc >> 8) as u8 ^ byte);
        (crc << 8) ^ TABLE.get(index).copied().unwrap_or_default()
    };
    tag.iter().fold(0, step) % COUNT
}

/// CRC-16/XMODEM: polynomial 0x1021.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(of_tag(b"123456789"), 0x31c3 % COUNT);
        assert_eq!(of_key(b"foo"), 12182);
        assert_eq!(of_key(b"{user1000}.following"), of_key(b"{user1000}.followers"));
        assert_eq!(of_key(b"foo{}{bar}"), of_tag(b"foo{}{bar}"));
        assert_eq!(of_key(b"foo{{bar}}zap"), of_tag(b"{bar"));
        assert_eq!(of_key(b"foo{bar}{zap}"), of_tag(b"bar"));
        assert_eq!(of_key(b"{bar"), of_tag(b"{bar"));
    }
}
