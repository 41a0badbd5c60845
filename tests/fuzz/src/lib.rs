//! What readers and ops promise of bytes that nobody made, each promise a function of the bytes that panics when it is
//! broken: a target of `cargo fuzz`, and of the gate, which runs it over the corpus and what becomes of it
//! (`tests/fuzz.rs`).
//!
//! To add one: a file here, a line in [`TARGETS`], a line in `fuzz_targets/NAME.rs`, its `[[bin]]`, and files in
//! `corpus/NAME/`.
#![allow(unreachable_pub, reason = "the gate takes this file in as a module")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a promise that is broken is a panic")]

mod archive;
mod cifar;
mod idx;
mod ops;
mod picture;
mod run;
mod scratch;
pub mod snapshot;
pub mod state;
mod table;
mod tokenizer;
mod weights;

use std::fmt::Debug;
use std::path::Path;

use alcyon::prelude::Result;

pub use self::archive::archive;
pub use self::cifar::{binary as cifar_binary, pickle as cifar_pickle};
pub use self::idx::idx;
pub use self::ops::ops;
pub use self::picture::{jpeg, png};
pub use self::run::run;
pub use self::snapshot::snapshot;
pub use self::state::state;
pub use self::table::table;
pub use self::tokenizer::{gpt2, tokenizer};
pub use self::weights::weights;

/// A promise about bytes; whether they were what the reader reads.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by the names of their folders in `corpus/`.
pub const TARGETS: [(&str, Target); 14] = [
    ("archive", archive),
    ("cifar_binary", cifar_binary),
    ("cifar_pickle", cifar_pickle),
    ("gpt2", gpt2),
    ("idx", idx),
    ("jpeg", jpeg),
    ("ops", ops),
    ("png", png),
    ("run", run),
    ("snapshot", snapshot),
    ("state", state),
    ("table", table),
    ("tokenizer", tokenizer),
    ("weights", weights),
];

/// What was read; none of what was refused, by an error that has to name the file, or one in the folder.
fn accepted<T>(read: Result<T>, file: &Path) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            let (error, name) = (error.to_string(), file.display().to_string());
            assert!(error.contains(&name), "{name} is not named by `{error}`");
            None
        }
    }
}

/// What was just written by us, and has to be read.
fn read_again<T, E: Debug>(read: std::result::Result<T, E>) -> T {
    read.unwrap_or_else(|error| panic!("what was written is not read: {error:?}"))
}

/// The bits of numbers: NaN is what it was.
fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}
