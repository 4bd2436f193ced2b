//! Keys of random draws: what a draw is for decides its value, never the order in which draws happen.

/// The 32-byte key of the draws made for `purpose` about `ids` under `seed`: a seed for a counter-based generator.
///
/// Equal arguments give equal keys on every machine. Fields are hashed with their lengths, so that no two lists of ids
/// can be mistaken for one another.
pub fn key(seed: u64, purpose: &str, ids: &[&str]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("evoq draws 1");
    hasher.update(&seed.to_le_bytes());
    for field in std::iter::once(&purpose).chain(ids) {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// A seed derived from `seed` for one purpose: the first eight bytes of its [`key`].
pub fn seed(seed: u64, purpose: &str, ids: &[&str]) -> u64 {
    let key = key(seed, purpose, ids);
    let mut head = [0; 8];
    head.copy_from_slice(&key[..8]);
    u64::from_le_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_every_field_and_on_their_borders() {
        let base = key(1, "vote", &["ab", "c"]);
        assert_eq!(base, key(1, "vote", &["ab", "c"]));
        for other in [
            key(2, "vote", &["ab", "c"]),
            key(1, "score", &["ab", "c"]),
            key(1, "vote", &["a", "bc"]),
            key(1, "vote", &["ab", "c", ""]),
        ] {
            assert_ne!(base, other);
        }
    }
}
