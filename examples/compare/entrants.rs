//! The optimizers that can be entered, with every setting that is not the rate.
//!
//! Settings are those of the papers or the authors' programs, the same in all protocols; only the
//! rate comes from a grid, and the grid is the same for all (`grid.rs`).

use alcyon::optim::{
    AdaFisher, AdaFisherConfig, Adam, AdamConfig, Kfac, KfacConfig, Sgd, SgdConfig, Shampoo,
    ShampooConfig,
};
use alcyon::prelude::*;

/// What enters when nothing is asked for.
pub(crate) const DEFAULT: [&str; 8] = [
    "sgd",
    "adam",
    "adamw",
    "adafisher",
    "adafisher-official",
    "adafisherw",
    "kfac",
    "shampoo",
];

/// Everything that can be entered.
pub(crate) const KNOWN: [&str; 9] = [
    "sgd",
    "adam",
    "adamw",
    "adafisher",
    "adafisher-official",
    "adafisher-paper",
    "adafisherw",
    "kfac",
    "shampoo",
];

/// The decoupled weight decay of `adamw` and `adafisherw`: PyTorch's default for AdamW.
const DECAY: f64 = 0.01;

/// [`Error::Unknown`], listing all, unless the name is known.
///
/// # Errors
/// That.
pub(crate) fn check(name: &str) -> Result<()> {
    if KNOWN.contains(&name) {
        return Ok(());
    }
    let known = KNOWN.map(str::to_owned).to_vec();
    Err(Error::Unknown { what: "optimizer", got: name.to_owned(), known })
}
