//! How a layer's curvature is written down, and how much of it is kept.

use std::fmt;

use engine::{Layer, LayerRecord, Shape};

use crate::LongSides;
use crate::algebra::pattern::Pattern;

/// How much of a layer's curvature to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two short vectors.
    Diagonal,
    /// Two matrices.
    Block,
    /// The whole block.
    Full,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Diagonal, Self::Block, Self::Full];

    /// The next larger one.
    pub(crate) fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind > self)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Diagonal => "diagonal",
            Self::Block => "block",
            Self::Full => "full",
        })
    }
}

/// What becomes of the positions that share a weight. Eschenhagen et al. 2023, section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// Every position is a row: A is the mean over examples and positions, G the mean over terms of
    /// the sum over positions.
    #[default]
    Expand,
    /// Positions are gathered first: A from the mean of `a` over the positions of an example, G
    /// from the sum of its `g`. Uses of one weight in several layers are still rows of their own.
    Reduce,
}

/// How a block's curvature is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// G ⊗ A for each group, both full. Convolutions are of this form too.
    Dense,
    /// A ⊗ G for each group, both full: of a weight whose first axis is the input's. Transposed
    /// convolutions are of this form.
    Transposed,
    /// A diagonal (the frequency of each index), G full.
    Lookup,
    /// The diagonal alone: the second moments of the per-example gradients of γ (and β).
    ScaleShift,
    /// No product: the block of all numbers of the weight, then of its bias.
    Joint {
        /// The numbers of the bias.
        biases: usize,
    },
}

/// How a record is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reduction {
    pub(crate) share: Share,
    pub(crate) kind: Kind,
    /// How much of a factor is kept.
    pub(crate) sides: LongSides,
}

impl Reduction {
    /// What is kept of one A and of one G.
    pub(crate) fn patterns(
        self,
        record: &LayerRecord,
        form: Form,
        groups: usize,
    ) -> (Pattern, Pattern) {
        self.patterns_of(&record.weight_shape, record.bias.is_some(), (form, groups))
    }

    /// The same of a weight's shape, with a bias or without.
    pub(crate) fn patterns_of(
        self,
        shape: &Shape,
        bias: bool,
        (form, groups): (Form, usize),
    ) -> (Pattern, Pattern) {
        let first = shape.first().copied().unwrap_or(1);
        let columns = shape.numel().checked_div(first).unwrap_or(0);
        let kept = |n: usize, unit: usize| match self.kind {
            Kind::Diagonal => Pattern::Diagonal(n),
            Kind::Block | Kind::Full => self.sides.of_runs(n, unit),
        };
        // The taps of a channel stay together.
        let taps = shape.iter().skip(2).product();
        match form {
            Form::Dense if bias => {
                // The bias's constant counts, and goes with the last block.
                let a = match kept(columns + 1, 1) {
                    Pattern::Diagonal(n) => Pattern::Diagonal(n),
                    Pattern::Blocks(_) => kept(columns, taps).and_one(),
                };
                (a, kept(first / groups, 1))
            }
            Form::Dense => (kept(columns, taps), kept(first / groups, 1)),
            Form::Transposed => (kept(first / groups, 1), kept(columns, taps)),
            Form::Lookup => (Pattern::Diagonal(first), kept(columns, 1)),
            Form::ScaleShift => (Pattern::Diagonal(0), Pattern::Diagonal(shape.numel())),
            Form::Joint { biases } => {
                (Pattern::Diagonal(0), Pattern::whole(shape.numel() + biases))
            }
        }
    }
}

/// How a layer's factors are written down, and how many there are of each.
pub(crate) fn form_and_groups(record: &LayerRecord) -> Option<(Form, usize)> {
    Some(match record.layer {
        Layer::Dense | Layer::Bias => (Form::Dense, 1),
        Layer::Conv2d(geometry) => (Form::Dense, geometry.groups),
        Layer::ConvTranspose2d(geometry) => (Form::Transposed, geometry.groups),
        Layer::Lookup => (Form::Lookup, 1),
        Layer::ScaleShift(_) => (Form::ScaleShift, if record.bias.is_some() { 2 } else { 1 }),
        _ => return None,
    })
}
