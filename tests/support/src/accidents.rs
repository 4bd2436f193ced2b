//! Files that are cut, flipped, spliced or made up, for readers that must not panic at them.
//!
//! `EVOQ_MUTATIONS` is the number of files that are tried of each kind; the default is for every day.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Something that happens to a file.
#[derive(Debug, Clone)]
pub enum Accident {
    /// It ends here.
    Cut(Index),
    /// A bit of a byte is another.
    Flip(Index, u8),
    /// A byte is another.
    Set(Index, u8),
    /// These bytes stand before the one here.
    Insert(Index, Vec<u8>),
    /// As many bytes from here on are gone.
    Remove(Index, usize),
    /// As many bytes from here on stand there twice.
    Repeat(Index, usize),
}

/// A few accidents; bytes that mean something in texts are the likelier ones.
pub fn accidents() -> impl Strategy<Value = Vec<Accident>> {
    let telling = prop::sample::select(b",;\t\n\r \"'\\{}[]:.-+0123456789eEnNaAiI\0\xff\xef".to_vec());
    let byte = prop_oneof![telling, any::<u8>()];
    let one = prop_oneof![
        1 => any::<Index>().prop_map(Accident::Cut),
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Accident::Flip(at, bit)),
        4 => (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Accident::Set(at, byte)),
        3 => (any::<Index>(), prop::collection::vec(byte, 1..6)).prop_map(|(at, bytes)| Accident::Insert(at, bytes)),
        3 => (any::<Index>(), 1..40_usize).prop_map(|(at, count)| Accident::Remove(at, count)),
        2 => (any::<Index>(), 1..80_usize).prop_map(|(at, count)| Accident::Repeat(at, count)),
    ];
    prop::collection::vec(one, 1..5)
}

/// What `accidents`, one after the other, make of a file.
pub fn after(mut bytes: Vec<u8>, accidents: &[Accident]) -> Vec<u8> {
    for accident in accidents {
        if bytes.is_empty() {
            break;
        }
        let size = bytes.len();
        match accident {
            Accident::Cut(at) => bytes.truncate(at.index(size)),
            Accident::Flip(at, bit) => bytes[at.index(size)] ^= 1 << bit,
            Accident::Set(at, byte) => bytes[at.index(size)] = *byte,
            Accident::Insert(at, new) => drop(bytes.splice(at.index(size)..at.index(size), new.iter().copied())),
            Accident::Remove(at, count) => drop(bytes.drain(at.index(size)..size.min(at.index(size) + count))),
            Accident::Repeat(at, count) => {
                let part = bytes[at.index(size)..size.min(at.index(size) + count)].to_vec();
                drop(bytes.splice(at.index(size)..at.index(size), part));
            }
        }
    }
    bytes
}

/// Tries `test` on as many values as `EVOQ_MUTATIONS` says, the same ones each time.
///
/// # Panics
/// Where the test fails: with the smallest value found at which it does.
pub fn try_all<S: Strategy>(strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let cases = std::env::var("EVOQ_MUTATIONS").map_or(400, |it| it.parse().expect("EVOQ_MUTATIONS is a number"));
    let config = Config { failure_persistence: None, ..Config::with_cases(cases) };
    let drawn = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, drawn).run(&strategy, test).unwrap_or_else(|fault| panic!("{fault}"));
}
