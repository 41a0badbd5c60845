//! `Tensor<H>`: an n-dimensional array that either is just numbers or has a place on a tape.

mod create;
#[cfg(feature = "cuda")]
mod cuda;
mod display;
mod place;
mod read;

use std::rc::Rc;
use std::sync::Arc;

use crate::op::{self, Op};
pub use crate::tape::Taped;
use crate::{DType, Device, Layout, Result, Shape, Storage};

/// An n-dimensional array. `H` says, at compile time, whether it remembers how it was made.
///
/// [`Tensor`] (`H = Plain`) is numbers; [`Var`] (`H = Taped`) is numbers with a place on a
/// [`Tape`](crate::Tape). Every op is a method of both. Cloning is cheap: the memory is shared
/// until somebody writes.
///
/// # Example
/// ```
/// use alcyon_engine::Tensor;
/// let x = Tensor::from_slice(&[1.0_f32, -2.0, 3.0], [3])?;
/// assert_eq!(x.relu()?.to_vec::<f32>()?, [1.0, 0.0, 3.0]);
/// # Ok::<(), alcyon_engine::Error>(())
/// ```
///
/// # Why a marker and not an optional tape
/// A function that takes `&Tensor` *cannot* record. There is no `no_grad` to forget and nothing
/// keeps a graph alive through a logged loss.
#[derive(Debug, Clone)]
pub struct Tensor<H: History = Plain> {
    storage: Arc<Storage>,
    layout: Layout,
    history: H,
}

/// A tensor with a place on a tape.
pub type Var = Tensor<Taped>;

/// What a tensor knows about its past. Sealed: [`Plain`] or [`Taped`].
pub trait History: Clone + Sized + sealed::Sealed {
    /// Runs an op on tensors of this history, and writes it down if there is a tape.
    ///
    /// This is the one door that every op passes: same tape, device and dtype; shapes; contiguous
    /// inputs; memory; kernel; record.
    ///
    /// # Errors
    /// Whatever the op's checks and kernels find.
    fn apply(op: impl Op, inputs: &[&Tensor<Self>]) -> Result<Tensor<Self>> {
        Self::apply_saving(op, inputs).map(|(output, _)| output)
    }

    /// The same, and returns what the kernel saved for the backward rule: batch norm's moments.
    ///
    /// # Errors
    /// As [`History::apply`].
    fn apply_saving(op: impl Op, inputs: &[&Tensor<Self>]) -> Result<(Tensor<Self>, op::Saved)> {
        Self::run(Rc::new(op), inputs)
    }

    /// The door itself, which is compiled once, not for every op.
    ///
    /// # Errors
    /// As [`History::apply`].
    fn run(op: Rc<dyn Op>, inputs: &[&Tensor<Self>]) -> Result<(Tensor<Self>, op::Saved)>;

    /// A tensor that nothing has made: where gradients end.
    fn constant(value: Tensor) -> Tensor<Self>;
}

/// No history: the op runs, and that is all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl History for Plain {
    fn run(op: Rc<dyn Op>, inputs: &[&Tensor]) -> Result<(Tensor, op::Saved)> {
        op::run(&*op, inputs)
    }

    fn constant(value: Tensor) -> Tensor {
        value
    }
}

mod sealed {
    #[allow(unnameable_types, reason = "the seal is public in name only")]
    pub trait Sealed {}
    impl Sealed for super::Plain {}
    impl Sealed for super::Taped {}
}

impl<H: History> Tensor<H> {
    /// Runs an op on tensors: what every op method and every backward rule calls.
    ///
    /// # Errors
    /// Whatever the op's checks and kernels find.
    pub fn apply_op<O: Op>(op: O, inputs: &[&Self]) -> Result<Self> {
        H::apply(op, inputs)
    }

    /// A constant on this tensor's device: masks and indices of ops that are made of others.
    pub(crate) fn beside(&self, value: &Tensor) -> Result<Self> {
        value.to_device(self.device()).map(H::constant)
    }

    pub(crate) const fn from_parts(storage: Arc<Storage>, layout: Layout, history: H) -> Self {
        Self { storage, layout, history }
    }

    /// The same numbers with another history.
    pub(crate) fn with_history<K: History>(&self, history: K) -> Tensor<K> {
        Tensor { storage: Arc::clone(&self.storage), layout: self.layout, history }
    }

    /// The same tensor, moved to another history.
    pub(crate) fn into_history<K: History>(self, history: K) -> Tensor<K> {
        Tensor { storage: self.storage, layout: self.layout, history }
    }

    pub(crate) const fn history(&self) -> &H {
        &self.history
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) const fn shared_storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    pub(crate) fn storage_mut(&mut self) -> Option<&mut Storage> {
        Arc::get_mut(&mut self.storage)
    }

    /// The sizes of the axes.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        self.layout.shape()
    }

    /// Shape, strides and offset in the storage.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The number of axes.
    #[must_use]
    pub const fn rank(&self) -> usize {
        self.shape().rank()
    }

    /// The number of elements.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.shape().numel()
    }

    /// The size of one axis; negative axes count from the end.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) when there is no such axis.
    pub fn size(&self, axis: isize) -> Result<usize> {
        Ok(self.shape()[self.shape().axis("size", axis)?])
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// Where the numbers are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// Bytes of the elements (not of the storage, which may be shared).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.numel().saturating_mul(self.dtype().bytes())
    }
}
