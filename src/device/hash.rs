//! One hash for names, tables and files: fixed for all time, unlike the standard library's.

/// FNV-1a, 64 bits. Sees any single byte that changed; it is no protection against intent.
pub(crate) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published test vectors of FNV-1a.
    #[test]
    fn hashes() {
        let cases = [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)];
        let failed: Vec<_> = cases.iter().filter(|(text, want)| fnv1a(text.bytes()) != *want).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}
