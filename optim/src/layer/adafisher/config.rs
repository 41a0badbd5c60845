//! The options of AdaFisher: every point on which its sources disagree, and the presets.

use engine::{Error, Result};
use kernels::step;

use crate::check::demand;
use crate::curvature::estimate::diagonals::{
    ConvGroups, ConvScale, DiagonalRule, NormFactor, NormInput,
};
use crate::curvature::estimate::running::{
    Averaging, Degenerate, EmaInit, EmaRule, FactorOrder, MinMax, Normalisation,
};

/// Adam's ε, in units of the gradient: keeps the step of a layer without gradient at 0.
const EPSILON: f64 = 1e-8;

/// λ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Damping {
    /// The same for all layers, in units of the (normalised) product H·S.
    Constant(f64),
    /// τ times the mean of H·S over the layer: then λ follows the layer's own curvature. (τ where
    /// that mean is 0. With [`Magnitude::Gradient`]: τ v̄ + 10⁻¹⁶, the square of Adam's ε.)
    LayerRelative(f64),
}

/// What the mean of F over a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Magnitude {
    /// That of H·S, as they come.
    Factors,
    /// v̄, the mean of g² over the parameter, averaged as the factors are: F = v̄ H·S / mean(H·S). Then
    /// only the shape of F comes from the factors. H·S alone knows nothing of how rows add up: where the
    /// rows of a batch agree, g² is up to R times as large as if they were independent.
    Gradient,
}

/// Weight decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// None.
    None,
    /// κ θ is added to the gradient, hence divided by F: at F = λ it acts 1/λ times as strongly.
    Coupled(f64),
    /// AdaFisherW: θ ← θ − α κ θ, not divided by F.
    Decoupled(f64),
}

/// What a parameter gets that no factor covers: tables, bare parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fallback {
    /// Identity factors: F = 1 + λ. The slow end of the thesis' range.
    Identity,
    /// F = 1: the authors' program.
    One,
    /// Adam's step with the same β for its first moment.
    Adam {
        /// Its rate, in units of AdaFisher's.
        ratio: f64,
        /// The weight of the old second moment, in [0, 1).
        beta2: f64,
        /// In units of the gradient.
        epsilon: f64,
    },
}

/// Options of [`AdaFisher`](crate::layer::adafisher::AdaFisher).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaFisherConfig {
    /// α, the learning rate. It is not transferable between presets: F differs by 1000.
    pub rate: f64,
    /// β in [0, 1), the weight of the old first moment.
    pub beta: f64,
    /// λ.
    pub damping: Damping,
    /// The average of the factors.
    pub ema: EmaRule,
    /// Its starting value.
    pub ema_init: EmaInit,
    /// Whether averages are normalised or normalised factors averaged.
    pub order: FactorOrder,
    /// The normalisation.
    pub normalisation: Normalisation,
    /// The factors of normalising layers.
    pub norm_factor: NormFactor,
    /// Which input these are made of.
    pub norm_input: NormInput,
    /// The scale of a convolution's H.
    pub conv_scale: ConvScale,
    /// The groups of a convolution.
    pub conv_groups: ConvGroups,
    /// The scale of F.
    pub magnitude: Magnitude,
    /// Weight decay.
    pub decay: Decay,
    /// Parameters without factors.
    pub fallback: Fallback,
    /// Whether tables (embeddings) get factors from the frequency of their rows.
    pub lookup: bool,
    /// Divides by √F instead of F.
    pub root: bool,
    /// Factors are refreshed at steps 0, `every`, 2 · `every`, …
    pub every: u64,
}

impl Default for AdaFisherConfig {
    /// The thesis.
    fn default() -> Self {
        Self::thesis()
    }
}

impl AdaFisherConfig {
    /// The names of the presets.
    pub const PRESETS: [&'static str; 5] = ["thesis", "paper", "official", "spring2024", "root"];

    /// Martins Gomes 2025, Algorithm 1: γ = 0.8, averages normalised, one factor per channel of a
    /// normalising layer, a refresh at every step. F is in [λ, 1 + λ].
    #[must_use]
    pub const fn thesis() -> Self {
        Self {
            rate: 1e-3,
            beta: 0.9,
            damping: Damping::Constant(1e-3),
            ema: EmaRule::average(0.8),
            ema_init: EmaInit::Zero,
            order: FactorOrder::EmaThenMinMax,
            normalisation: Normalisation::MinMax(MinMax {
                epsilon: 0.0,
                span_scale: 1.0,
                degenerate: Degenerate::One,
            }),
            norm_factor: NormFactor::Thesis,
            norm_input: NormInput::Raw,
            conv_scale: ConvScale::Positions,
            conv_groups: ConvGroups::Shared,
            magnitude: Magnitude::Factors,
            decay: Decay::None,
            fallback: Fallback::Identity,
            lookup: false,
            root: false,
            every: 1,
        }
    }

    /// arXiv 2405.16397: γ = 0.92, two-entry factors of normalising layers.
    #[must_use]
    pub const fn paper() -> Self {
        Self { ema: EmaRule::average(0.92), norm_factor: NormFactor::Paper, ..Self::thesis() }
    }

    /// What the authors' program of 2025 computes, with every parameter mapped to its own layer:
    /// normalised factors averaged by 0.08 and 0.008, so that F is within 8 % of λ after three
    /// refreshes; a refresh every 100 steps.
    #[must_use]
    pub const fn official() -> Self {
        Self {
            ema: EmaRule::official(0.8),
            ema_init: EmaInit::One,
            order: FactorOrder::MinMaxThenEma,
            normalisation: Normalisation::MinMax(MinMax {
                epsilon: 1e-6,
                span_scale: 1.0,
                degenerate: Degenerate::Zero,
            }),
            norm_factor: NormFactor::Official,
            conv_scale: ConvScale::Official,
            fallback: Fallback::One,
            every: 100,
            ..Self::thesis()
        }
    }

    /// What the authors' program of spring 2024 computed: normalised to [0, 0.1], averaged by 0.08
    /// and 0.92.
    #[must_use]
    pub const fn spring2024() -> Self {
        Self {
            ema: EmaRule::spring2024(0.92),
            normalisation: Normalisation::MinMax(MinMax {
                epsilon: 1e-12,
                span_scale: 10.0,
                degenerate: Degenerate::Zero,
            }),
            conv_scale: ConvScale::Spring2024,
            ..Self::official()
        }
    }

    /// Ours: the thesis' factors without min-max, scaled to the gradient, under Adam's square root.
    ///
    /// ```text
    /// F = √(v̄ H·S / mean(H·S) + λ)      v̄ the average of mean g² over the parameter, λ = v̄ / 100 + ε²
    /// ```
    /// This is Adam's √v with v as a product: its size from the gradient, its shape from the layer's
    /// inputs and output gradients. So rates that suit Adam suit it, parameters without factors take
    /// Adam's own step at the same rate, and the state is m and two short vectors. Averages start at the
    /// first value.
    ///
    /// What it leaves out, and why: min-max (Eq. 20) makes the smallest entry of either factor 0, so that
    /// all weights of one input and of one output of each layer take steps 1/λ times as long as the
    /// others, and forgets how far the entries are apart; and without a root, a step is as sensitive to
    /// a wrong F as it can be.
    #[must_use]
    pub const fn root() -> Self {
        Self {
            damping: Damping::LayerRelative(1e-2),
            ema_init: EmaInit::First,
            normalisation: Normalisation::None,
            norm_input: NormInput::Normalized,
            conv_groups: ConvGroups::PerGroup,
            magnitude: Magnitude::Gradient,
            fallback: Fallback::Adam { ratio: 1.0, beta2: 0.999, epsilon: 1e-8 },
            lookup: true,
            root: true,
            ..Self::thesis()
        }
    }

    /// A preset by name.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names there are.
    ///
    /// # Example
    /// ```
    /// use alcyon_optim::AdaFisherConfig;
    /// assert_eq!(AdaFisherConfig::preset("paper")?.ema.keep, 0.92);
    /// let error = AdaFisherConfig::preset("best").unwrap_err().to_string();
    /// assert_eq!(error, "unknown preset `best`; known: thesis, paper, official, spring2024, root");
    /// # Ok::<(), engine::Error>(())
    /// ```
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "thesis" => Ok(Self::thesis()),
            "paper" => Ok(Self::paper()),
            "official" => Ok(Self::official()),
            "spring2024" => Ok(Self::spring2024()),
            "root" => Ok(Self::root()),
            _ => Err(Error::Unknown {
                what: "preset",
                got: name.to_owned(),
                known: Self::PRESETS.map(str::to_owned).to_vec(),
            }),
        }
    }

    /// Refuses options outside their range.
    pub(super) fn check(&self) -> Result<()> {
        let demand =
            |name, value, expected, holds| demand("adafisher", name, value, expected, holds);
        let not_negative =
            |name, x: f64| demand(name, x, "finite and not negative", x.is_finite() && x >= 0.0);
        let positive =
            |name, x: f64| demand(name, x, "finite and above 0", x.is_finite() && x > 0.0);
        let fraction = |name, x: f64| demand(name, x, "in [0, 1)", (0.0..1.0).contains(&x));
        not_negative("rate", self.rate)?;
        fraction("beta", self.beta)?;
        let (Damping::Constant(damping) | Damping::LayerRelative(damping)) = self.damping;
        positive("damping", damping)?;
        fraction("ema.keep", self.ema.keep)?;
        positive("ema.gain", self.ema.gain)?;
        if let Normalisation::MinMax(rule) = self.normalisation {
            not_negative("normalisation.epsilon", rule.epsilon)?;
            positive("normalisation.span_scale", rule.span_scale)?;
        }
        if let Decay::Coupled(decay) | Decay::Decoupled(decay) = self.decay {
            not_negative("decay", decay)?;
        }
        if let Fallback::Adam { ratio, beta2, epsilon } = self.fallback {
            not_negative("fallback.ratio", ratio)?;
            fraction("fallback.beta2", beta2)?;
            not_negative("fallback.epsilon", epsilon)?;
        }
        demand("every", self.every as f64, "at least 1", self.every > 0)
    }

    pub(super) const fn averaging(&self) -> Averaging {
        let Self { order, ema, ema_init: init, normalisation, .. } = *self;
        Averaging { order, ema, init, normalisation }
    }

    pub(super) const fn diagonal(&self) -> DiagonalRule {
        let Self { norm_factor, norm_input, conv_scale, conv_groups, lookup, .. } = *self;
        DiagonalRule { norm_factor, norm_input, conv_scale, conv_groups, lookup }
    }

    /// What a saved state's factors mean: a state is taken over by the same rule only.
    pub(super) fn rule(&self) -> String {
        format!("{:?} {:?} {:?}", self.averaging(), self.diagonal(), self.magnitude)
    }

    /// λ of a layer whose H·S, or of a parameter whose g², has this mean.
    pub(super) fn damping_of(&self, mean: f64) -> f64 {
        match (self.damping, self.magnitude) {
            (Damping::Constant(damping), _) => damping,
            (Damping::LayerRelative(tau), Magnitude::Factors) => {
                tau * if mean > 0.0 { mean } else { 1.0 }
            }
            (Damping::LayerRelative(tau), Magnitude::Gradient) => tau * mean + EPSILON * EPSILON,
        }
    }

    /// F of a parameter without factors; `None` if it is Adam's.
    pub(super) fn constant(&self) -> Option<f64> {
        match self.fallback {
            Fallback::Identity => Some(1.0 + self.damping_of(1.0)),
            Fallback::One => Some(1.0),
            Fallback::Adam { .. } => None,
        }
    }

    /// The fallback in a word.
    pub(super) const fn fallback_name(&self) -> &'static str {
        match self.fallback {
            Fallback::Identity => "identity",
            Fallback::One => "F = 1",
            Fallback::Adam { .. } => "Adam",
        }
    }

    /// The update at a parameter's own step (counted from 1).
    pub(super) const fn update(&self, rate: f64, step: u64, damping: f64) -> step::AdaFisher {
        let (coupled_decay, decoupled_decay) = self.decays();
        let Self { beta, root, .. } = *self;
        step::AdaFisher { rate, beta, damping, coupled_decay, decoupled_decay, step, root }
    }

    /// Adam's, where it takes over. Zeros where it does not.
    pub(super) fn adam(&self, rate: f64, step: u64) -> step::Adam {
        let (ratio, beta2, epsilon) = match self.fallback {
            Fallback::Adam { ratio, beta2, epsilon } => (ratio, beta2, epsilon),
            Fallback::Identity | Fallback::One => (0.0, 0.0, 0.0),
        };
        let (coupled, decoupled) = self.decays();
        step::Adam {
            rate: ratio * rate,
            beta1: self.beta,
            beta2,
            epsilon,
            weight_decay: coupled + decoupled,
            decoupled: decoupled > 0.0,
            step,
        }
    }

    /// κ, coupled and decoupled; one of them is 0.
    const fn decays(&self) -> (f64, f64) {
        match self.decay {
            Decay::None => (0.0, 0.0),
            Decay::Coupled(decay) => (decay, 0.0),
            Decay::Decoupled(decay) => (0.0, decay),
        }
    }
}
