//! The models of the literature: one file each, in which the paper, a diagram and the shapes come first.
//!
//! | model | paper | parameter names of |
//! |---|---|---|
//! | [`Mlp`] | | |
//!
//! Names, shapes and order of the parameters are those of the originals, so that their safetensors files
//! load with [`checkpoint::load`](crate::checkpoint::load). All start as the originals do, in f32. A model is
//! made by a small configuration whose `Default`, or a function named after the variant, has the published
//! sizes; the tests compare counts of parameters with the published ones, and outputs with those of the
//! originals (`tests/golden/make.py`).

mod mlp;

use engine::{Error, Result};

pub use mlp::{Mlp, MlpConfig};

/// Refuses an option of a model's configuration, unless it is all right.
fn demand(
    op: &'static str,
    name: &'static str,
    right: bool,
    expected: &'static str,
    got: &dyn std::fmt::Debug,
) -> Result<()> {
    if right {
        return Ok(());
    }
    Err(Error::Argument { op, name, expected, got: format!("{got:?}") })
}
