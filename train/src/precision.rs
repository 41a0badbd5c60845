//! `Precision`: what products are computed in; and `LossScale`, which f16 needs beside it.

use std::fmt;
use std::str::FromStr;

use engine::{DType, Error, Result, Tape, Var};
use serde::{Deserialize, Serialize};

/// What products are computed in. Parameters, their gradients, what optimizers keep, losses and evaluations
/// are f32 in any case ([`Tape::autocast`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32, as everything.
    #[default]
    F32,
    /// bf16: eight significant bits with f32's range.
    BF16,
    /// f16: eleven significant bits, of numbers up to 65504. Gradients are carried times a
    /// [`LossScale`], and steps that it turns out too large for are skipped.
    F16,
}

impl Precision {
    /// A model's outputs, computed so, and handed out in f32.
    ///
    /// # Errors
    /// The model's own.
    pub fn outputs(self, tape: &Tape, forward: impl FnOnce() -> Result<Var>) -> Result<Var> {
        let outputs = match self {
            Self::F32 => return forward(),
            Self::BF16 => tape.autocast(DType::BF16, forward)?,
            Self::F16 => tape.autocast(DType::F16, forward)?,
        };
        if outputs.dtype().is_half() { outputs.to_dtype(DType::F32) } else { Ok(outputs) }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    /// # Example
    /// ```
    /// use alcyon_train::Precision;
    /// assert_eq!("bf16".parse::<Precision>()?, Precision::BF16);
    /// assert!("half".parse::<Precision>().is_err());
    /// # Ok::<(), engine::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let known = [Self::F32, Self::BF16, Self::F16];
        let (op, name, expected) = ("train", "precision", "f32, bf16 or f16");
        let found = known.into_iter().find(|precision| precision.to_string() == text);
        found.ok_or_else(|| Error::Argument { op, name, expected, got: text.to_owned() })
    }
}

/// What gradients are multiplied by on their way down a tape in f16: as much as they bear. It is halved
/// when one is not finite, and that step is skipped; it is doubled after [`LossScale::PATIENCE`] steps
/// that were.
///
/// # Source
/// Micikevicius et al. 2018, "Mixed Precision Training", section 3.2, with PyTorch's constants.
///
/// # Example
/// ```
/// use alcyon_train::LossScale;
/// let mut scale = LossScale::default();
/// assert_eq!(scale.factor, 65536.0);
/// scale.found(false);
/// assert_eq!((scale.factor, scale.skipped), (32768.0, 1));
/// (0..LossScale::PATIENCE).for_each(|_| scale.found(true));
/// assert_eq!(scale.factor, 65536.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// A power of two.
    pub factor: f64,
    /// Steps since it last changed.
    pub good: u64,
    /// Steps that were skipped in all.
    pub skipped: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { factor: 65536.0, good: 0, skipped: 0 }
    }
}

impl LossScale {
    /// Good steps after which more is tried.
    pub const PATIENCE: u64 = 2000;

    /// Whether a step's gradients were all finite.
    pub fn found(&mut self, finite: bool) {
        if !finite {
            *self = Self { factor: self.factor / 2.0, good: 0, skipped: self.skipped + 1 };
            return;
        }
        self.good += 1;
        if self.good == Self::PATIENCE {
            (self.factor, self.good) = (self.factor * 2.0, 0);
        }
    }
}
