//! `Op`: one differentiable operation, and the one function that runs it.

pub(crate) mod batch;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod halves;
pub(crate) mod targets;

use std::fmt::Debug;
use std::sync::Arc;

pub use halves::Halves;
use kernels::pool::or_out_of_memory;

use crate::dtype::for_element;
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::Layer;
use crate::tensor::{History, Plain, Tensor, Var};
use crate::{DType, Device, Error, Layout, Result, Shape, Storage};

/// Tensors that the forward kernel leaves for the backward rule.
pub type Saved = Vec<Tensor>;

/// What an op does with its (first) input's memory.
#[derive(Debug, Clone, Copy)]
pub enum View {
    /// It computes: an output is allocated and the kernel called.
    Compute,
    /// The output is the input's memory under this layout.
    Of(Layout),
    /// It would be a view, if only the input were contiguous.
    OfContiguous,
}

/// Which numbers a backward rule looks at, besides the gradient and what the kernel saved. The
/// shapes are always there. In a recorded sweep all numbers are, computed again if need be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeps {
    /// Those of the inputs.
    pub inputs: bool,
    /// Those of the output.
    pub output: bool,
}

impl Keeps {
    /// Shapes will do.
    pub const NOTHING: Self = Self { inputs: false, output: false };
    /// The inputs'.
    pub const INPUTS: Self = Self { inputs: true, output: false };
    /// The output's.
    pub const OUTPUT: Self = Self { inputs: false, output: true };
    /// The inputs' and the output's.
    pub const ALL: Self = Self { inputs: true, output: true };
}

/// One differentiable operation. The parts come in this order in every file:
/// **shape, cpu, cuda, backward, samples** (the last is the file's [`OpSpec`]).
pub trait Op: Debug + 'static {
    /// Its name in errors, on the printed tape and in the registry.
    fn name(&self) -> &'static str;

    /// Part 1: all preconditions on shapes, and the output's shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit.
    fn shape(&self, inputs: &[&Shape]) -> Result<Shape>;

    /// The output's dtype. By default all inputs must have the same floating point dtype.
    ///
    /// # Errors
    /// [`Error::DType`] when an input's dtype does not fit.
    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        same_float(self.name(), inputs)
    }

    /// Part 2: the kernel on the CPU. Inputs are contiguous unless [`Op::takes_strides`]; every element
    /// of `out` must be written.
    ///
    /// # Errors
    /// [`Error::Index`] and the like: what only the numbers can tell.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved>;

    /// Part 3: the kernel on a CUDA device, under the same conditions.
    ///
    /// # Errors
    /// [`Error::NoKernel`] for an op without one; [`Error::Cuda`] when the device fails.
    #[cfg(feature = "cuda")]
    fn cuda(&self, _inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        Err(Error::NoKernel { op: self.name(), device: out.device() })
    }

    /// Who takes 16-bit inputs as they are. By default they are widened to f32 before, and what comes
    /// out is rounded.
    fn halves(&self) -> Halves {
        Halves::Widened
    }

    /// Whether it is a product of its inputs, which [`Tape::autocast`](crate::Tape::autocast) computes in
    /// 16 bits.
    fn is_product(&self) -> bool {
        false
    }

    /// Whether the output is the input in another dtype: of a parameter it is the parameter, cast.
    fn is_cast(&self) -> bool {
        false
    }

    /// Whether the kernels read their inputs through their strides.
    fn takes_strides(&self) -> bool {
        false
    }

    /// Whether the output is a view of the input.
    fn view(&self, _input: &Layout) -> View {
        View::Compute
    }

    /// Part 4: the backward rule: the gradient of each input that is needed, in the order of inputs,
    /// written with the ops users call.
    ///
    /// # Errors
    /// [`Error::NotTwiceDifferentiable`] unless the op says otherwise.
    fn backward(&self, _at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        Err(Error::NotTwiceDifferentiable { op: self.name() })
    }

    /// What the rule looks at. The tape drops everything else as soon as the program does.
    fn keeps(&self) -> Keeps {
        Keeps::ALL
    }

    /// What kind of layer this is, if inputs 1 and 2 are a layer's weight and bias.
    fn layer(&self) -> Option<Layer> {
        None
    }
}

/// All that a backward rule may look at.
#[derive(Debug)]
pub struct Site<'a> {
    /// The op's inputs.
    pub inputs: &'a [Var],
    /// The op's output.
    pub output: &'a Var,
    /// What the forward kernel saved. Constants: where a second derivative is wanted
    /// ([`Site::is_recorded`]), a rule recomputes from the inputs what depends on them.
    pub saved: &'a [Tensor],
    /// The gradient of the loss with respect to the output.
    pub grad: &'a Var,
    /// Which inputs' gradients are wanted.
    pub needs: &'a [bool],
}

impl Site<'_> {
    /// Whether the rule's own operations are being recorded, to be differentiated again.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.grad.is_recorded()
    }

    /// The gradient of input `i`, if it is needed.
    ///
    /// # Errors
    /// Whatever `rule` returns.
    pub fn want(&self, i: usize, rule: impl FnOnce() -> Result<Var>) -> Result<Option<Var>> {
        if self.needs[i] { rule().map(Some) } else { Ok(None) }
    }
}

/// All inputs have one floating point dtype: that of the output.
///
/// # Errors
/// [`Error::DType`] otherwise.
pub fn same_float(op: &'static str, inputs: &[DType]) -> Result<DType> {
    let first = inputs.first().copied().unwrap_or(DType::F32);
    if !first.is_float() {
        return Err(Error::DType { op, expected: "a floating point type".into(), got: first });
    }
    match inputs.iter().find(|&&d| d != first) {
        Some(&got) => Err(Error::DType { op, expected: first.to_string(), got }),
        None => Ok(first),
    }
}

/// Input `i` must be of dtype `expected`.
///
/// # Errors
/// [`Error::DType`] otherwise.
pub fn expect_dtype(op: &'static str, got: DType, expected: DType) -> Result<()> {
    if got == expected {
        Ok(())
    } else {
        Err(Error::DType { op, expected: expected.to_string(), got })
    }
}

/// Runs an op: checks, memory, kernel. Returns the output and what the kernel saved.
///
/// # Errors
/// [`Error::Device`] for inputs on two devices, [`Error::Argument`] for an output that no tensor can be,
/// [`Error::OutOfMemory`], and whatever the op finds.
pub fn run<H: History>(op: &dyn Op, inputs: &[&Tensor<H>]) -> Result<(Tensor, Saved)> {
    inputs.iter().try_for_each(|t| t.storage().made())?;
    if let Some(half) = halves::to_widen(op, inputs)? {
        return halves::run(op, inputs, half);
    }
    let device = one_device(op, inputs)?;
    let dtypes: Vec<DType> = inputs.iter().map(|t| t.dtype()).collect();
    let dtype = op.dtype(&dtypes)?;
    let shapes: Vec<&Shape> = inputs.iter().map(|t| t.shape()).collect();
    let shape = op.shape(&shapes)?.checked(op.name())?;

    if device == Device::Meta {
        return Ok((Tensor::meta(shape, dtype), Saved::new()));
    }
    if let [input, ..] = inputs {
        match op.view(input.layout()) {
            View::Compute => {}
            View::Of(layout) => return Ok((view_of(input.shared_storage(), layout), Saved::new())),
            View::OfContiguous => {
                let copy = contiguous(input)?;
                if let View::Of(layout) = op.view(copy.layout()) {
                    return Ok((view_of(copy.shared_storage(), layout), Saved::new()));
                }
            }
        }
    }
    #[cfg(feature = "cuda")]
    if let Some(gpu) = inputs.iter().find_map(|t| t.storage().gpu()) {
        return cuda::run(op, gpu, inputs, dtype, shape).map_err(|e| e.of_op(op.name()));
    }
    // The one place where memory that an op lacks, for its output or inside of its kernel, becomes an error.
    or_out_of_memory(|| {
        let mut out = CpuStorage::unspecified(dtype, shape.numel());
        let saved = with_views(op, inputs, |views| op.cpu(views, &mut out))?;
        Ok((Tensor::from_cpu(out, shape), saved))
    })
    .map_err(Error::no_memory(op.name()))?
}

fn one_device<H: History>(op: &dyn Op, inputs: &[&Tensor<H>]) -> Result<Device> {
    let first = inputs.first().map_or(Device::Cpu, |t| t.device());
    match inputs.iter().map(|t| t.device()).find(|&d| d != first) {
        Some(right) => Err(Error::Device { op: op.name(), left: first, right }),
        None => Ok(first),
    }
}

fn view_of(storage: &Arc<Storage>, layout: Layout) -> Tensor {
    Tensor::from_parts(Arc::clone(storage), layout, Plain)
}

/// Hands the inputs to a kernel, made contiguous first if it wants them so. This is the one place
/// where a hidden copy can happen.
fn with_views<H: History, R>(
    op: &dyn Op,
    inputs: &[&Tensor<H>],
    kernel: impl FnOnce(&[CpuView<'_>]) -> Result<R>,
) -> Result<R> {
    let strided = |t: &Tensor<H>| !op.takes_strides() && !t.layout().is_contiguous();
    if !inputs.iter().any(|t| strided(t)) {
        let views: Vec<CpuView<'_>> = inputs.iter().filter_map(|t| cpu_view(t)).collect();
        return kernel(&views);
    }
    let plain: Vec<Tensor> = inputs
        .iter()
        .map(|t| if strided(t) { contiguous(t) } else { Ok(t.value()) })
        .collect::<Result<_>>()?;
    let views: Vec<CpuView<'_>> = plain.iter().filter_map(cpu_view).collect();
    kernel(&views)
}

fn cpu_view<H: History>(t: &Tensor<H>) -> Option<CpuView<'_>> {
    match t.storage() {
        Storage::Cpu(storage) => Some(CpuView::new(storage, t.layout())),
        #[cfg(feature = "cuda")]
        Storage::Cuda(_) => None,
        Storage::Meta(_) | Storage::Refused(_) => None,
    }
}

/// The same elements, row-major without gaps; the same memory if they lie so already.
pub(crate) fn contiguous<H: History>(t: &Tensor<H>) -> Result<Tensor> {
    let layout = t.layout();
    if layout.is_contiguous() {
        return Ok(t.value());
    }
    let storage = match t.storage() {
        Storage::Cpu(storage) => storage,
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => return cuda::contiguous(t, storage),
        Storage::Meta(_) | Storage::Refused(_) => return Ok(t.value()),
    };
    let mut out = CpuStorage::of_op("contiguous", t.dtype(), t.numel())?;
    for_element!(t.dtype(), T => kernels::elementwise::copy_strided(
        storage.slice::<T>(),
        layout.shape(),
        layout.strides(),
        layout.offset(),
        out.slice_mut::<T>(),
    ));
    Ok(Tensor::from_cpu(out, *layout.shape()))
}

/// An op's entry in the registry: what the tests over all ops run.
#[derive(Debug, Clone, Copy)]
pub struct OpSpec {
    /// The op's name: that of its file.
    pub name: &'static str,
    /// Small inputs (f64) and a call, together touching every option.
    pub samples: fn() -> Vec<Sample>,
}

/// One call of an op, for gradient checks and parity.
pub struct Sample {
    /// f64 inputs, and i64 ones for indices. Gradients are checked for the floating point ones.
    pub inputs: Vec<Tensor>,
    /// The call.
    #[allow(clippy::type_complexity, reason = "a boxed function is what it is")]
    pub call: Box<dyn Fn(&[Var]) -> Result<Var>>,
    /// Whether second derivatives exist and are checked.
    pub twice: bool,
}

impl Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sample").field("inputs", &self.inputs).field("twice", &self.twice).finish()
    }
}

impl Sample {
    /// A call on inputs.
    pub fn new(inputs: Vec<Tensor>, call: impl Fn(&[Var]) -> Result<Var> + 'static) -> Self {
        Self { inputs, call: Box::new(call), twice: true }
    }

    /// The same, but without a second derivative.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.twice = false;
        self
    }
}

/// A reproducible f64 input for samples: values between −2 and 2, none near 0 or near another.
#[must_use]
pub fn sample_input(shape: impl Into<Shape>) -> Tensor {
    // The golden-ratio sequence: evenly spread, never repeating.
    Tensor::from_fn(shape, DType::F64, |i| {
        let u = (0.5 + (i as f64 + 1.0) * 0.618_033_988_749_894_9).fract();
        let x = 4.0 * u - 2.0;
        x + 0.05 * x.signum()
    })
}
