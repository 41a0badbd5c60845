//! What becomes of a file: bits flipped, bytes lost, repeated and put in, two files joined.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::{Index, select};

/// Bytes that are shown as text where they are text, to be put into a corpus.
#[derive(Clone)]
pub(crate) struct Input(pub(crate) Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// What stands at the ends of the numbers that files have, as bytes and as text.
const EXTREMES: [&[u8]; 16] = [
    &[0; 4],
    &[0xff; 4],
    &[0xff; 8],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0, 0, 0, 0x80],
    &[1, 0, 0, 0, 0, 0, 0, 0x20],
    b"\0",
    b"0",
    b"-1",
    b"1e999",
    b"5e-324",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551615",
    b"null",
    b"[[[[[[[[",
];

#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, &'static [u8]),
    Overwrite(Index, &'static [u8]),
    Cut(Index),
    Remove(Index, usize),
    Repeat(Index, usize),
    /// From there on, another file.
    Splice(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let (extreme, length) = (|| select(&EXTREMES[..]), || 1_usize..64);
    prop_oneof![
        3 => (at(), 0_u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (at(), extreme()).prop_map(|(at, with)| Change::Insert(at, with)),
        2 => (at(), extreme()).prop_map(|(at, with)| Change::Overwrite(at, with)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), length()).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => (at(), length()).prop_map(|(at, length)| Change::Repeat(at, length)),
        1 => (at(), at(), at()).prop_map(|(at, other, from)| Change::Splice(at, other, from)),
    ]
}

/// One of the files, changed in a few places: half of the time in its head, where files say what they are.
pub(crate) fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Input> {
    (any::<Index>(), any::<bool>(), vec(change(), 1..6)).prop_map(move |(seed, near, changes)| {
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        for change in &changes {
            let end = if near { bytes.len().min(250) } else { bytes.len() };
            apply(change, &mut bytes, end, &seeds);
        }
        Input(bytes)
    })
}

fn apply(change: &Change, bytes: &mut Vec<u8>, end: usize, seeds: &[Vec<u8>]) {
    let place = |at: &Index| at.index(end + 1).min(bytes.len());
    match change {
        Change::Flip(at, bit) => {
            let at = place(at);
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
        }
        Change::Set(at, with) => {
            let at = place(at);
            bytes.get_mut(at).into_iter().for_each(|byte| *byte = *with);
        }
        Change::Insert(at, with) => {
            let at = place(at);
            bytes.splice(at..at, with.iter().copied());
        }
        Change::Overwrite(at, with) => {
            let at = place(at);
            bytes.splice(at..(at + with.len()).min(bytes.len()), with.iter().copied());
        }
        Change::Cut(at) => bytes.truncate(place(at)),
        Change::Remove(at, length) => {
            let at = place(at);
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Change::Repeat(at, length) => {
            let at = place(at);
            let part = bytes[at..(at + length).min(bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        Change::Splice(at, other, from) => {
            let other = &seeds[other.index(seeds.len())];
            bytes.truncate(place(at));
            bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
        }
    }
}
