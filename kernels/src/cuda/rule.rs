//! Parameter updates that are one formula of each entry: all parameters of a model in one launch, as in
//! [`super::step`].
//!
//! The formulas are those of the optimizers of these names, whose numbers come with the launch.

use super::device::Gpu;
use super::error::Result;
use super::launch::Arg;
use super::operand::{length, scalar};
use super::program::{Program, Text};
use super::slice::Slice;
use super::step::{self, Moving, Row};

const TEXT: Text = Text { name: "rule", source: include_str!("../../cuda/rule.cu") };

/// An update of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What it is called in messages.
    pub name: &'static str,
    /// How many numbers are kept of an entry, at most 3: s0, s1, s2.
    pub kept: usize,
    /// Assignments to theta, s0, s1, s2 (and g), separated by commas. They see six numbers of the
    /// optimizer's, c0 to c5 (as doubles: n0 to n5), and two of the parameter's own step, size and root.
    formula: &'static str,
}

/// All but [`DESCENT`], for those who compile or time them.
pub const ALL: [Rule; 12] = [
    ADABELIEF,
    ADABOUND,
    AMSBOUND,
    ADAGRAD,
    ADAHESSIAN,
    LION,
    RADAM,
    RMSPROP,
    RMSPROP_WITH_MOMENTUM,
    RMSPROP_CENTERED,
    RMSPROP_CENTERED_WITH_MOMENTUM,
    SOPHIA,
];

/// s0 = m, s1 = s; c: \[β₁, 1 − β₁, β₂, 1 − β₂, ε, 1 − α κ\]; size = α / (1 − β₁ᵗ), root = √(1 − β₂ᵗ); rectified as
/// [`RADAM`].
pub const ADABELIEF: Rule = Rule {
    name: "adabelief",
    kept: 2,
    formula: "s0 = c0 * s0 + c1 * g, s2 = g - s0, s1 = c2 * s1 + c3 * s2 * s2 + c4, \
              theta = c5 * theta - (root > T(0) ? size * s0 / (sqrt(s1) / root + c4) : size * s0)",
};

/// s0 = m, s1 = v; c: \[β₁, β₂, ε, α∞, 1 − α κ, or 1 and κ\]; size = α √(1 − β₂ᵗ) / (1 − β₁ᵗ), root = γ t.
pub const ADABOUND: Rule = Rule {
    name: "adabound",
    kept: 2,
    formula: "g += c5 * theta, s0 = c0 * s0 + T(1 - n0) * g, s1 = c1 * s1 + T(1 - n1) * g * g, \
              theta = c4 * theta - s0 * fmin(fmax(size / (sqrt(s1) + c2), \
              c3 * (T(1) - T(1) / (root + T(1)))), c3 * (T(1) + T(1) / root))",
};

/// As [`ADABOUND`], with s2 = the largest v.
pub const AMSBOUND: Rule = Rule {
    name: "amsbound",
    kept: 3,
    formula: "g += c5 * theta, s0 = c0 * s0 + T(1 - n0) * g, s1 = c1 * s1 + T(1 - n1) * g * g, s2 = fmax(s2, s1), \
              theta = c4 * theta - s0 * fmin(fmax(size / (sqrt(s2) + c2), \
              c3 * (T(1) - T(1) / (root + T(1)))), c3 * (T(1) + T(1) / root))",
};

/// s0 = s; c: \[α, ε, κ\].
pub const ADAGRAD: Rule = Rule {
    name: "adagrad",
    kept: 1,
    formula: "g += c2 * theta, s0 = fmin(s0 + g * g, LARGEST), s1 = sqrt(s0) + c1, theta -= s1 > T(0) ? c0 * g / s1 : T(0)",
};

/// s0 = m, s1 = v, s2 = D; c: \[β₁, 1 − α κ, β₂, ε, k/2\]; size = α / (1 − β₁ᵗ), root = 1 − β₂ᵗ.
pub const ADAHESSIAN: Rule = Rule {
    name: "adahessian",
    kept: 3,
    formula: "s0 = c0 * s0 + (T(1) - c0) * g, s1 = c2 * s1 + (T(1) - c2) * s2 * s2, g = pow(s1 / root, c4) + c3, \
              theta = c1 * theta - (g > T(0) ? size * s0 / g : T(0))",
};

/// s0 = Δ, g = the direction; c: \[μ, α, 1 − κ\], and ν, a number on the device ([`step_scaled`]).
pub const DESCENT: Rule = Rule {
    name: "descent",
    kept: 1,
    formula: "s0 = c0 * s0 - c1 * p.s[0] * g, theta = c2 * theta + s0",
};

/// s0 = m; c: \[β₁, 1 − β₁, β₂, 1 − β₂, α, κ\].
pub const LION: Rule = Rule {
    name: "lion",
    kept: 1,
    formula: "theta -= c4 * (sign(c0 * s0 + c1 * g) + c5 * theta), s0 = c2 * s0 + c3 * g",
};

/// s0 = m, s1 = v; c: \[β₁, β₂, ε, 1 − α κ, or 1 and κ\]; root = √(1 − β₂ᵗ), or 0 before v can be trusted;
/// size = α / (1 − β₁ᵗ), times r where there is a root.
pub const RADAM: Rule = Rule {
    name: "radam",
    kept: 2,
    formula: "g += c4 * theta, s0 = c0 * s0 + T(1 - n0) * g, s1 = c1 * s1 + T(1 - n1) * g * g, \
              theta = c3 * theta - (root > T(0) ? size * s0 / (sqrt(s1) / root + c2) : size * s0)",
};

/// s0 = v; c: \[α, ρ, 1 − ρ, ε, κ\].
pub const RMSPROP: Rule = Rule {
    name: "rmsprop",
    kept: 1,
    formula: "g += c4 * theta, s0 = c1 * s0 + c2 * g * g, theta -= c0 * g / (sqrt(s0) + c3)",
};

/// s0 = v, s1 = b; c: \[α, ρ, 1 − ρ, ε, κ, μ\].
pub const RMSPROP_WITH_MOMENTUM: Rule = Rule {
    name: "rmsprop with momentum",
    kept: 2,
    formula: "g += c4 * theta, s0 = c1 * s0 + c2 * g * g, s1 = c5 * s1 + g / (sqrt(s0) + c3), \
              theta -= c0 * s1",
};

/// s0 = v, s1 = a; c: \[α, ρ, 1 − ρ, ε, κ\].
pub const RMSPROP_CENTERED: Rule = Rule {
    name: "centred rmsprop",
    kept: 2,
    formula: "g += c4 * theta, s0 = c1 * s0 + c2 * g * g, s1 = c1 * s1 + c2 * g, \
              theta -= c0 * g / (sqrt(fmax(s0 - s1 * s1, T(0))) + c3)",
};

/// s0 = v, s1 = a, s2 = b; c: \[α, ρ, 1 − ρ, ε, κ, μ\].
pub const RMSPROP_CENTERED_WITH_MOMENTUM: Rule = Rule {
    name: "centred rmsprop with momentum",
    kept: 3,
    formula: "g += c4 * theta, s0 = c1 * s0 + c2 * g * g, s1 = c1 * s1 + c2 * g, \
              s2 = c5 * s2 + g / (sqrt(fmax(s0 - s1 * s1, T(0))) + c3), theta -= c0 * s2",
};

/// s0 = m, s1 = h; c: \[β₁, 1 − β₁, ρ, a floor, α, 1 − α κ\].
pub const SOPHIA: Rule = Rule {
    name: "sophia",
    kept: 2,
    formula: "s0 = c0 * s0 + c1 * g, \
              theta = c5 * theta - c4 * fmin(fmax(s0 / (c2 * fmax(s1, T(0)) + c3), T(-1)), T(1))",
};

/// One step of a rule for every parameter, with the numbers c0 to c5 (left out: 0); `own` gives size
/// and root from a parameter's count of steps.
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn step<const N: usize>(
    gpu: &Gpu,
    parameters: &[Moving<'_>],
    rule: &Rule,
    numbers: [f64; N],
    own: impl Fn(u64) -> (f64, f64),
) -> Result<()> {
    queue(gpu, parameters, rule, numbers, |p| Ok(Row::own(own(p.step))))
}

/// The same for a rule with one number more, which is on the device: of the parameters' type.
///
/// # Errors
/// As [`step()`].
pub fn step_scaled<const N: usize>(
    gpu: &Gpu,
    parameters: &[Moving<'_>],
    rule: &Rule,
    numbers: [f64; N],
    scale: Slice<'_>,
) -> Result<()> {
    length("rule", "the number", scale.len(), &[1])?;
    let of = |p: &Moving<'_>| scalar("rule", "the number", scale.scalar(), p.theta.scalar());
    parameters.iter().try_for_each(of)?;
    queue(gpu, parameters, rule, numbers, |_| Row::scaled(gpu, scale))
}

fn queue<const N: usize>(
    gpu: &Gpu,
    parameters: &[Moving<'_>],
    rule: &Rule,
    numbers: [f64; N],
    row: impl Fn(&Moving<'_>) -> Result<Row>,
) -> Result<()> {
    let mut table = Vec::new();
    for p in parameters {
        row(p)?.pieces(gpu, p, rule.kept..=rule.kept, &mut table)?;
    }
    let mut arguments = [Arg::Double(0.0); 6];
    arguments.iter_mut().zip(numbers).for_each(|(to, from)| *to = from.into());
    let program = |scalar| Program::new(TEXT, scalar).with(rule.name, [rule.formula, "", ""]);
    step::launch(gpu, program, "rule", parameters, &table, &arguments)
}
