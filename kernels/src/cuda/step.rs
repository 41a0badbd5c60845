//! Parameter updates: all parameters of a model in one launch.
//!
//! A network has dozens of small tensors, and a launch costs as much as moving megabytes. So a table
//! of pieces goes to the device, of at most a few thousand elements each, and a block takes a piece.
//! The formulas are those of [`crate::step`].

use super::device::Gpu;
use super::error::Result;
use super::launch::{Arg, Grid};
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};
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
}

/// One step of [`Sgd`] for every parameter; whether it is the first is each parameter's own.
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn sgd(gpu: &Gpu, parameters: &[Moving<'_>], rule: &Sgd) -> Result<()> {
    let mut table = Vec::new();
    for p in parameters {
        let row = Row { kind: i64::from(p.step == 1), ..Row::default() };
        row.pieces(p, 0..=1, &mut table);
    }
    let arguments = [
        i32::from(rule.nesterov).into(),
        rule.rate.into(),
        rule.momentum.into(),
        (1.0 - rule.dampening).into(),
        rule.weight_decay.into(),
    ];
    launch(gpu, "sgd", parameters, &table, &arguments)
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
        Row { size, root, ..Row::default() }.pieces(p, 2..=3, &mut table);
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
    launch(gpu, "adam", parameters, &table, &arguments)
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
    assert_eq!(parameters.len(), curvature.len(), "cuda adafisher: a curvature for each parameter");
    let mut table = Vec::new();
    for (p, curvature) in parameters.iter().zip(curvature) {
        let size = rule.rate / correction(rule.beta, p.step);
        Row { size, ..Row::of(curvature, p.theta.len()) }.pieces(p, 1..=1, &mut table);
    }
    let arguments = [
        i32::from(rule.root).into(),
        rule.beta.into(),
        (1.0 - rule.beta).into(),
        rule.damping.into(),
        rule.coupled_decay.into(),
        (1.0 - rule.rate * rule.decoupled_decay).into(),
    ];
    launch(gpu, "adafisher", parameters, &table, &arguments)
}

/// What all pieces of one parameter have in common.
#[derive(Default)]
struct Row {
    s: u64,
    h: u64,
    columns: i64,
    kind: i64,
    size: f64,
    root: f64,
}

impl Row {
    fn of(curvature: &Curvature<'_>, n: usize) -> Self {
        match *curvature {
            Curvature::Outer(s, h) => {
                assert_eq!(n, s.len() * h.len(), "cuda adafisher: outer factors");
                let columns = h.len() as i64;
                Self { s: s.pointer(), h: h.pointer(), columns, ..Self::default() }
            }
            Curvature::Product(s, h) => {
                assert_eq!([s.len(), h.len()], [n; 2], "cuda adafisher: factors");
                Self { s: s.pointer(), h: h.pointer(), kind: 1, ..Self::default() }
            }
            Curvature::Column(s, root) => {
                assert_eq!(s.len(), n, "cuda adafisher: column");
                Self { s: s.pointer(), kind: 2, root, ..Self::default() }
            }
            Curvature::Constant(root) => Self { kind: 3, root, ..Self::default() },
        }
    }

    /// Appends the parameter's rows, in the order of `piece` in the kernel's text.
    fn pieces(
        &self,
        p: &Moving<'_>,
        states: std::ops::RangeInclusive<usize>,
        table: &mut Vec<i64>,
    ) {
        let n = p.theta.len();
        assert!(states.contains(&p.state.len()), "cuda step: states of a parameter");
        let lengths = p.state.iter().map(|s| s.len()).chain([p.grad.len()]);
        assert!(lengths.into_iter().all(|len| len == n), "cuda step: lengths");
        let bytes = p.theta.scalar().bytes();
        for start in (0..n).step_by(PIECE) {
            let at = |pointer: u64| (pointer + (start * bytes) as u64) as i64;
            let state = |i: usize| p.state.get(i).map_or(0, |state| at(state.pointer()));
            table.extend([
                at(p.theta.pointer()),
                at(p.grad.pointer()),
                state(0),
                state(1),
                state(2),
                self.s as i64,
                self.h as i64,
                PIECE.min(n - start) as i64,
                start as i64,
                self.columns,
                self.kind,
                self.size.to_bits() as i64,
                self.root.to_bits() as i64,
            ]);
        }
    }
}

fn launch(
    gpu: &Gpu,
    kernel: &'static str,
    parameters: &[Moving<'_>],
    table: &[i64],
    numbers: &[Arg],
) -> Result<()> {
    let Some(first) = parameters.first().filter(|_| !table.is_empty()) else { return Ok(()) };
    let scalar = first.theta.scalar();
    assert!(parameters.iter().all(|p| p.theta.scalar() == scalar), "cuda step: one type");
    let pieces = table.len() / WORDS;
    let on_device = gpu.write(table)?;
    let mut arguments = vec![pieces.into(), Arg::Pointer(on_device.pointer())];
    arguments.extend(numbers);
    gpu.launch(&Program::new(TEXT, scalar), kernel, Grid::blocks(pieces), &arguments)
}
