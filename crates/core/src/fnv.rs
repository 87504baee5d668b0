//! FNV-1a hashes. They distinguish different inputs, but do not protect against forgery. The values are stored, so the
//! function must never change.

/// The 64-bit basis.
pub const BASIS_64: u64 = 0xcbf2_9ce4_8422_2325;

/// 64 bits of some bytes, begun at a basis.
pub fn hash_64(basis: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    bytes.iter().fold(basis, step)
}

/// 128 bits of some texts, each with its length before it, so that the same letters in other texts are something else.
pub fn hash_128(parts: &[&[u8]]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let step = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
    parts.iter().fold(BASIS, |hash, part| {
        let length = (part.len() as u64).to_be_bytes();
        length.iter().chain(*part).fold(hash, step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_values_come_out() {
        assert_eq!(hash_64(BASIS_64, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash_64(BASIS_64, b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(hash_128(&[]), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_ne!(hash_128(&[b"ab", b"c"]), hash_128(&[b"a", b"bc"]));
    }
}
