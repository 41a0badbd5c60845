//! Functions without parameters, entry by entry.

use std::fmt;
use std::str::FromStr;

use engine::{Error, Result, Var, parameters};

use crate::Module;

/// A nonlinearity. The variants are also exported by themselves, so that a list of layers reads
/// `.then(Relu)`.
///
/// # Example
/// ```
/// use alcyon_nn::{Activation, Module};
/// use engine::Tensor;
/// let activation: Activation = "relu".parse()?;
/// let y = activation.predict(&Tensor::from_slice(&[-1.0_f32, 2.0], [2])?)?;
/// assert_eq!(y.to_vec::<f32>()?, [0.0, 2.0]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ).
    Tanh,
    /// x Φ(x), with the normal distribution's exact Φ. Hendrycks & Gimpel 2016.
    Gelu,
    /// x σ(x). Elfwing, Uchibe & Doya 2017.
    Silu,
    /// σ(x) = 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// min(max(x, 0), 6). Krizhevsky 2010.
    Relu6,
    /// min(max(x/6 + 1/2, 0), 1). Howard et al. 2019.
    HardSigmoid,
    /// x · min(max(x/6 + 1/2, 0), 1). Howard et al. 2019.
    HardSwish,
}
parameters!(Activation {});

impl Activation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Relu,
        Self::Tanh,
        Self::Gelu,
        Self::Silu,
        Self::Sigmoid,
        Self::Relu6,
        Self::HardSigmoid,
        Self::HardSwish,
    ];

    /// Its name, as [`FromStr`] reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Sigmoid => "sigmoid",
            Self::Relu6 => "relu6",
            Self::HardSigmoid => "hard_sigmoid",
            Self::HardSwish => "hard_swish",
        }
    }
}

impl Module for Activation {
    fn forward(&self, x: &Var) -> Result<Var> {
        match self {
            Self::Relu => x.relu(),
            Self::Tanh => x.tanh(),
            Self::Gelu => x.gelu(),
            Self::Silu => x.silu(),
            Self::Sigmoid => x.sigmoid(),
            Self::Relu6 => x.relu6(),
            Self::HardSigmoid => x.hard_sigmoid(),
            Self::HardSwish => x.hard_swish(),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Activation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| Error::Unknown {
            what: "activation",
            got: name.to_owned(),
            known: Self::ALL.map(|a| a.name().to_owned()).to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use engine::Tensor;

    use super::*;

    #[test]
    fn values_at_one_are_the_textbooks() {
        let one = Tensor::from_slice(&[1.0_f64], [1]).unwrap();
        let e = std::f64::consts::E;
        let sigmoid = e / (e + 1.0);
        let tanh = (e * e - 1.0) / (e * e + 1.0);
        // Φ(1) to 15 digits, from any table of the normal distribution.
        let (gelu, two_thirds) = (0.841_344_746_068_543, 2.0 / 3.0);
        let expected = [1.0, tanh, gelu, sigmoid, sigmoid, 1.0, two_thirds, two_thirds];
        for (activation, expected) in Activation::ALL.into_iter().zip(expected) {
            let got = activation.predict(&one).unwrap().item().unwrap();
            assert!((got - expected).abs() < 1e-14, "{activation}: {got}");
        }
    }

    #[test]
    fn names_read_back_and_an_unknown_one_lists_the_known() {
        for activation in Activation::ALL {
            assert_eq!(activation.name().parse::<Activation>().unwrap(), activation);
        }
        let error = "swish".parse::<Activation>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown activation `swish`; known: relu, tanh, gelu, silu, sigmoid, relu6, hard_sigmoid, \
             hard_swish"
        );
    }
}
