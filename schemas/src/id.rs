//! Identifiers of pictures and pairs.

use std::fmt;

/// A picture's id: `<dataset>/<path as found, with forward slashes>`; a variant appends `#<type>-<severity>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ImageId(String);

/// A pair's id: 16 hex digits of blake3 over its two image ids, the smaller first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PairId(String);

macro_rules! text_id {
    ($name:ident) => {
        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}
text_id!(ImageId);
text_id!(PairId);

impl PairId {
    /// The id of the pair of `a` and `b`, in either order.
    pub fn of(a: &ImageId, b: &ImageId) -> Self {
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        let mut hasher = blake3::Hasher::new();
        for id in [first, second] {
            hasher.update(&(id.0.len() as u64).to_le_bytes());
            hasher.update(id.0.as_bytes());
        }
        Self(hasher.finalize().to_hex()[..16].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_id_in_either_order() {
        let (a, b) = (ImageId::from("set/a.png"), ImageId::from("set/b.png"));
        assert_eq!(PairId::of(&a, &b), PairId::of(&b, &a));
        assert_eq!(PairId::of(&a, &b).as_str().len(), 16);
        assert_ne!(PairId::of(&a, &b), PairId::of(&a, &a));
    }
}
