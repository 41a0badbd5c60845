//! y = f(x) for every element, and g f′(x), g f″(x), given as formulas of `kernels/cuda/elementwise.cu`.

use super::device::Gpu;
use super::error::Result;
use super::formula::Names;
use super::launch::Grid;
use super::operand::lengths;
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};

const TEXT: Text = Text { name: "elementwise", source: include_str!("../../cuda/elementwise.cu") };

const NAMES: Names = Names {
    variables: &["x", "y", "c0", "c1"],
    functions: &[
        "bounded",
        "floored",
        "sigmoid",
        "normal_cdf",
        "normal_density",
        "gelu_tanh",
        "gelu_tanh_slope",
        "gelu_tanh_bend",
    ],
};

/// Formulas in CUDA C++ for f(x), f′(x) and f″(x). `x`, `y` = f(x) and the numbers `c0`, `c1` are of
/// type `T`. Each is an expression of these, of functions that compute, of arithmetic, comparisons and choices;
/// anything else is refused before it is compiled ([`CudaError::Formula`](super::CudaError::Formula)), so whoever
/// writes a formula need not be trusted with memory (decision 0054).
#[derive(Debug, Clone, Copy)]
pub struct Formulas {
    /// What they compute.
    pub name: &'static str,
    /// f, f′, f″
    pub formulas: [&'static str; 3],
    /// Two numbers of the op.
    pub constants: [f64; 2],
}

impl Formulas {
    const fn program(&self, scalar: super::Scalar) -> Program {
        Program::new(TEXT, scalar).given(self.name, self.formulas, &NAMES)
    }
}

/// y = f(x).
///
/// # Errors
/// [`CudaError::Length`](super::CudaError::Length) or [`CudaError::Arguments`](super::CudaError::Arguments) for
/// operands unlike each other, [`CudaError::Formula`](super::CudaError::Formula), and what the driver or the compiler
/// refuses (all functions here).
pub fn forward(gpu: &Gpu, f: &Formulas, x: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    lengths("elementwise", &[y.len()], [("x", x.len())])?;
    if y.is_empty() {
        return Ok(());
    }
    let [c0, c1] = f.constants;
    let arguments = [y.len().into(), x.into(), y.into(), c0.into(), c1.into()];
    gpu.launch(&f.program(y.scalar()), "forward", Grid::over(y.len()), &arguments)
}

/// out = g f′(x) for `order` 1, g f″(x) for `order` 2, where y = f(x).
///
/// # Errors
/// As [`forward`].
pub fn derivative(
    gpu: &Gpu,
    f: &Formulas,
    order: usize,
    [x, y, g]: [Slice<'_>; 3],
    out: &SliceMut<'_>,
) -> Result<()> {
    let n = out.len();
    lengths("elementwise", &[n], [("x", x.len()), ("y", y.len()), ("g", g.len())])?;
    if n == 0 {
        return Ok(());
    }
    let [c0, c1] = f.constants;
    let arguments = [n.into(), x.into(), y.into(), g.into(), out.into(), c0.into(), c1.into()];
    let kernel = if order == 1 { "first" } else { "second" };
    gpu.launch(&f.program(out.scalar()), kernel, Grid::over(n), &arguments)
}
