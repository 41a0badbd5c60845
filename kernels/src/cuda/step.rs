//! Parameter updates: all parameters of a model in one launch.
//!
//! A network has dozens of small tensors, and a launch costs as much as moving megabytes. So a table
//! of pieces goes to the device, of at most a few thousand elements each, and a block takes a piece.
//! The formulas are those of [`crate::step`].

use std::ops::{Range, RangeInclusive};

use super::device::Gpu;
use super::error::Result;
use super::launch::{Arg, Grid};
use super::operand::{length, lengths, scalar, view};
use super::program::{Program, Text};
use super::slice::{Scalar, Slice, SliceMut};
use super::verdict::{self, Verdict};
use crate::step::{AdaFisher, Adam, Sgd, correction};

const TEXT: Text = Text { name: "step", source: include_str!("../../cuda/step.cu") };

/// The most elements of a piece.
const PIECE: usize = 8192;
/// Words of a row of the table.
const WORDS: usize = 13;

/// A parameter on the device with what an update reads and writes.
#[derive(Debug)]
pub struct Moving<'a> {
    /// θ
    pub theta: &'a SliceMut<'a>,
    /// The gradient.
    pub grad: Slice<'a>,
    /// What the optimizer keeps: the buffer of SGD (or nothing), m and v of Adam and for AMSGrad the
    /// largest v, m of AdaFisher.
    pub state: Vec<&'a SliceMut<'a>>,
    /// The steps of this parameter, this one included.
    pub step: u64,
    /// Whether the step is taken: of all parameters of a launch the first one's counts. Without, it is.
    pub verdict: Option<&'a Verdict>,
}

/// The diagonal F of AdaFisher on the device, as in [`crate::step::Curvature`].
#[derive(Debug, Clone, Copy)]
pub enum Curvature<'a> {
    /// F\[o, p\] = s\[o\]·h\[p\] + λ
    Outer(Slice<'a>, Slice<'a>),
    /// F\[c\] = s\[c\]·h\[c\] + λ
    Product(Slice<'a>, Slice<'a>),
    /// F\[o\] = s\[o\]·h + λ
    Column(Slice<'a>, f64),
    /// F = the number.
    Constant(f64),
    /// [`Curvature::Outer`] in each of `groups` equal runs of rows: a group has its part of s, and of h,
    /// of which it uses the first `width`.
    Groups {
        /// Of all groups, one entry a row.
        s: Slice<'a>,
        /// Of all groups.
        h: Slice<'a>,
        /// How many.
        groups: usize,
        /// Columns of the weight.
        width: usize,
    },
}

/// One step of [`Sgd`] for every parameter; whether it is the first is each parameter's own.
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn sgd(gpu: &Gpu, parameters: &[Moving<'_>], rule: &Sgd) -> Result<()> {
    let mut table = Vec::new();
    for p in parameters {
        let row = Row { kind: i64::from(p.step == 1), ..Row::default() };
        row.pieces(gpu, p, 0..=1, &mut table)?;
    }
    let arguments = [
        i32::from(rule.nesterov).into(),
        rule.rate.into(),
        rule.momentum.into(),
        (1.0 - rule.dampening).into(),
        rule.weight_decay.into(),
    ];
    launch(gpu, plain, "sgd", parameters, &table, &arguments)
}

/// One step of [`Adam`] for every parameter; the count of steps is each parameter's own.
///
/// # Errors
/// As [`sgd`].
pub fn adam(gpu: &Gpu, parameters: &[Moving<'_>], rule: &Adam) -> Result<()> {
    let mut table = Vec::new();
    for p in parameters {
        let size = rule.rate / correction(rule.beta1, p.step);
        let root = correction(rule.beta2, p.step).sqrt();
        Row { size, root, ..Row::default() }.pieces(gpu, p, 2..=3, &mut table)?;
    }
    let decay = rule.weight_decay;
    let (kept, coupled) =
        if rule.decoupled { (1.0 - rule.rate * decay, 0.0) } else { (1.0, decay) };
    let arguments = [
        rule.beta1.into(),
        (1.0 - rule.beta1).into(),
        rule.beta2.into(),
        (1.0 - rule.beta2).into(),
        kept.into(),
        coupled.into(),
        rule.epsilon.into(),
    ];
    launch(gpu, plain, "adam", parameters, &table, &arguments)
}

/// One step of [`AdaFisher`] for every parameter with its curvature; the count of steps is each
/// parameter's own.
///
/// # Errors
/// As [`sgd`].
pub fn adafisher(
    gpu: &Gpu,
    parameters: &[Moving<'_>],
    curvature: &[Curvature<'_>],
    rule: &AdaFisher,
) -> Result<()> {
    length("adafisher", "curvatures", curvature.len(), &[parameters.len()])?;
    let mut table = Vec::new();
    for (p, curvature) in parameters.iter().zip(curvature) {
        let size = rule.rate / correction(rule.beta, p.step);
        for (row, part) in Row::of(gpu, curvature, &p.theta.read())? {
            Row { size, ..row }.pieces_of(gpu, p, 1..=1, part, &mut table)?;
        }
    }
    let arguments = [
        i32::from(rule.root).into(),
        rule.beta.into(),
        (1.0 - rule.beta).into(),
        rule.damping.into(),
        rule.coupled_decay.into(),
        (1.0 - rule.rate * rule.decoupled_decay).into(),
    ];
    launch(gpu, plain, "adafisher", parameters, &table, &arguments)
}

/// What all pieces of one parameter have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    s: u64,
    h: u64,
    columns: i64,
    kind: i64,
    size: f64,
    root: f64,
}

impl Row {
    /// Of a rule that needs two numbers of each parameter's own.
    pub(super) fn own((size, root): (f64, f64)) -> Self {
        Self { size, root, ..Self::default() }
    }

    /// Of a rule that needs a number on the device.
    pub(super) fn scaled(gpu: &Gpu, number: Slice<'_>) -> Result<Self> {
        Ok(Self { s: number.on(gpu, "step")?, ..Self::default() })
    }

    /// The rows of a parameter, each for a part of its elements.
    fn of(
        gpu: &Gpu,
        curvature: &Curvature<'_>,
        theta: &Slice<'_>,
    ) -> Result<Vec<(Self, Range<usize>)>> {
        let n = theta.len();
        let at = |x: Slice<'_>| x.on(gpu, "adafisher");
        let of_type = |name, x: Slice<'_>| scalar("adafisher", name, x.scalar(), theta.scalar());
        let row = match *curvature {
            Curvature::Outer(s, h) => {
                length("adafisher", "theta", n, &[s.len(), h.len()])?;
                of_type("s", s).and_then(|()| of_type("h", h))?;
                let columns = h.len() as i64;
                Self { s: at(s)?, h: at(h)?, columns, ..Self::default() }
            }
            Curvature::Product(s, h) => {
                lengths("adafisher", &[n], [("s", s.len()), ("h", h.len())])?;
                of_type("s", s).and_then(|()| of_type("h", h))?;
                Self { s: at(s)?, h: at(h)?, kind: 1, ..Self::default() }
            }
            Curvature::Column(s, root) => {
                length("adafisher", "s", s.len(), &[n])?;
                of_type("s", s)?;
                Self { s: at(s)?, kind: 2, root, ..Self::default() }
            }
            Curvature::Constant(root) => Self { kind: 3, root, ..Self::default() },
            Curvature::Groups { s, h, groups, width } => {
                let [rows, stride] = [s, h].map(|x| x.len().checked_div(groups).unwrap_or(0));
                length("adafisher", "theta", n, &[groups, rows, width])?;
                view("adafisher", "a group's h", stride, &[width], &[1])?;
                let mut all = Vec::new();
                for g in 0..groups {
                    let outer = Curvature::Outer(s.part(g * rows, rows), h.part(g * stride, width));
                    let part = g * rows * width..(g + 1) * rows * width;
                    for (row, _) in Self::of(gpu, &outer, &theta.part(part.start, part.len()))? {
                        all.push((row, part.clone()));
                    }
                }
                return Ok(all);
            }
        };
        Ok(vec![(row, 0..n)])
    }

    /// Appends the parameter's rows, in the order of `piece` in the kernel's text.
    pub(super) fn pieces(
        &self,
        gpu: &Gpu,
        p: &Moving<'_>,
        states: RangeInclusive<usize>,
        table: &mut Vec<i64>,
    ) -> Result<()> {
        self.pieces_of(gpu, p, states, 0..p.theta.len(), table)
    }

    /// The same for a part of the parameter's elements.
    fn pieces_of(
        &self,
        gpu: &Gpu,
        p: &Moving<'_>,
        states: RangeInclusive<usize>,
        part: Range<usize>,
        table: &mut Vec<i64>,
    ) -> Result<()> {
        if !states.contains(&p.state.len()) {
            length("step", "arrays of state", p.state.len(), &[*states.end()])?;
        }
        for x in p.state.iter().map(|s| s.read()).chain([p.grad]) {
            length("step", "an array of a parameter", x.len(), &[p.theta.len()])?;
            scalar("step", "an array of a parameter", x.scalar(), p.theta.scalar())?;
        }
        let bytes = p.theta.scalar().bytes();
        // θ, the gradient, and up to three arrays that are kept; null for those that are not.
        let mut arrays = [p.theta.on(gpu, "step")?, p.grad.on(gpu, "step")?, 0, 0, 0];
        for (array, state) in arrays[2..].iter_mut().zip(&p.state) {
            *array = state.on(gpu, "step")?;
        }
        for start in part.clone().step_by(PIECE) {
            let at = |array: u64| if array == 0 { 0 } else { array + (start * bytes) as u64 };
            table.extend(arrays.map(|array| at(array) as i64));
            table.extend([
                self.s as i64,
                self.h as i64,
                PIECE.min(part.end - start) as i64,
                (start - part.start) as i64,
                self.columns,
                self.kind,
                self.size.to_bits() as i64,
                self.root.to_bits() as i64,
            ]);
        }
        Ok(())
    }
}

const fn plain(scalar: Scalar) -> Program {
    Program::new(TEXT, scalar)
}

pub(super) fn launch(
    gpu: &Gpu,
    program: impl Fn(Scalar) -> Program,
    kernel: &'static str,
    parameters: &[Moving<'_>],
    table: &[i64],
    numbers: &[Arg],
) -> Result<()> {
    let Some(first) = parameters.first().filter(|_| !table.is_empty()) else { return Ok(()) };
    let of = first.theta.scalar();
    parameters.iter().try_for_each(|p| scalar("step", "a parameter", p.theta.scalar(), of))?;
    let pieces = table.len() / WORDS;
    let on_device = gpu.write(table)?;
    verdict::asked(gpu, first.verdict, kernel, |verdict| {
        let arguments =
            [&[pieces.into(), Arg::Pointer(on_device.pointer())], &verdict[..], numbers];
        gpu.launch(&program(of), kernel, Grid::blocks(pieces), &arguments.concat())
    })
}
