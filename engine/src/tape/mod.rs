//! `Tape`: the recording of a forward pass, a list that can be printed, swept and dropped.

mod autocast;
mod backward;
mod checkpoint;
mod example_norms;
mod gradients;
mod layer_record;
mod loss_scale;
mod memory;
mod observe;
mod recording;
#[cfg(feature = "cuda")]
mod replay;
mod staged;
mod table;

use std::rc::{Rc, Weak};

pub use gradients::{Gradients, Unused, VarGradients};
pub use layer_record::{Geometry, Layer, LayerObserver, LayerRecord, Norm, Product, Rows};
pub use memory::Memory;
use recording::{Node, Recording};
#[cfg(feature = "cuda")]
pub use replay::Replay;
pub use staged::Staged;
pub use table::Table;

use crate::op::{self, Op, Saved};
use crate::tensor::{History, Tensor, Var};
use crate::{Buffer, Error, ParamId, Parameter, Result};

/// A recording of operations, in the order they ran.
///
/// The tape owns the recording; [`Var`]s point into it weakly. Dropping the tape frees everything,
/// visibly. Recording order *is* topological order, so backward is a loop, not a graph search.
///
/// # Example
/// ```
/// use alcyon_engine::{Tape, Tensor};
/// let tape = Tape::new();
/// let x = tape.watch(Tensor::from_slice(&[1.0_f64, 2.0, 3.0], [3])?);
/// let loss = x.mul(&x)?.sum_all()?;
/// let grads = tape.backward(&loss)?;
/// assert_eq!(grads.of_var(&x).unwrap().to_vec::<f64>()?, [2.0, 4.0, 6.0]);
/// # Ok::<(), alcyon_engine::Error>(())
/// ```
///
/// # Why explicit
/// A list can be printed, timed, swept twice and handed to an observer; a graph hidden in the
/// tensors cannot.
#[derive(Debug, Clone)]
pub struct Tape {
    /// `None` on an off tape.
    recording: Option<Rc<Recording>>,
}

/// Where a `Var` stands: in which recording, at which record. `None` for constants and for
/// everything on an off tape.
///
/// # Why weak
/// A Var that owned its tape would keep a whole forward pass alive through one logged loss.
#[derive(Debug, Clone)]
pub struct Taped {
    place: Option<(Weak<Recording>, NodeId)>,
}

/// The index of a record on its tape.
pub(crate) type NodeId = usize;

impl Default for Tape {
    fn default() -> Self {
        Self::new()
    }
}

impl Tape {
    /// A tape that records, in evaluation mode: dropout is the identity, batch norm uses its
    /// running statistics.
    #[must_use]
    pub fn new() -> Self {
        Self::recording(None)
    }

    /// A tape that records, in training mode. Random ops draw from `seed`, reproducibly.
    #[must_use]
    pub fn training(seed: u64) -> Self {
        Self::recording(Some(seed))
    }

    /// A tape that writes nothing down: inference.
    #[must_use]
    pub const fn off() -> Self {
        Self { recording: None }
    }

    fn recording(training: Option<u64>) -> Self {
        let recording = Recording { training, ..Recording::default() };
        Self { recording: Some(Rc::new(recording)) }
    }

    /// Places a tensor on the tape; no gradient is wanted.
    #[must_use]
    pub fn input(&self, value: Tensor) -> Var {
        self.leaf(value, None, false)
    }

    /// Places a tensor on the tape; its gradient is wanted.
    #[must_use]
    pub fn watch(&self, value: Tensor) -> Var {
        let wanted = value.dtype().is_float();
        self.leaf(value, None, wanted)
    }

    /// Places a parameter on the tape. The same parameter gives the same record, however often
    /// it is bound: so shared weights add up, and each *use* is still a record of its own.
    #[must_use]
    pub fn bind(&self, parameter: &Parameter) -> Var {
        let Some(recording) = &self.recording else { return Var::constant(parameter.value()) };
        let wanted = parameter.is_trainable() && !recording.fixed.get();
        let bound = recording.bound.borrow().get(&(parameter.id(), wanted)).copied();
        match bound {
            Some(id) => parameter.value().with_history(Taped::at(recording, id)),
            None => {
                let leaf = self.leaf(parameter.value().clone(), Some(parameter.id()), wanted);
                let id = leaf.node_on(recording);
                let mut bound = recording.bound.borrow_mut();
                bound.extend(id.map(|id| ((parameter.id(), wanted), id)));
                leaf
            }
        }
    }

    /// Runs a part of the forward pass in which the parameters that are bound count as constants: gradients
    /// flow through what is done with them, and none to them. For a model that the loss reaches and that is not
    /// to be trained by it: a teacher, the other one of two that are trained in turns.
    ///
    /// # Errors
    /// Those of `part`.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Parameter, Tape, Tensor};
    /// let [student, teacher] = [2.0, 5.0].map(|x| Parameter::new(Tensor::scalar(x, DType::F64)));
    /// let tape = Tape::new();
    /// let y = tape.bind(&student).square()?;
    /// let taught = tape.fixed(|| y.mul(&tape.bind(&teacher)))?;
    /// let gradients = tape.backward(&taught)?;
    /// assert_eq!(gradients.of(&student).unwrap().item()?, 20.0);
    /// assert!(gradients.of(&teacher).is_none());
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn fixed<T>(&self, part: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(recording) = &self.recording else { return part() };
        let outer = recording.fixed.replace(true);
        let result = part();
        recording.fixed.set(outer);
        result
    }

    fn leaf(&self, value: Tensor, param: Option<ParamId>, needs_grad: bool) -> Var {
        let Some(recording) = &self.recording else {
            return value.into_history(Taped::CONSTANT);
        };
        let id = recording.push(Node::leaf(value.clone(), param, needs_grad));
        value.into_history(Taped::at(recording, id))
    }

    /// Whether dropout is on and batch norm uses the batch's statistics.
    #[must_use]
    pub fn is_training(&self) -> bool {
        self.recording.as_ref().is_some_and(|r| r.training.is_some())
    }

    /// Seed and stream for the next random op, or `None` in evaluation mode.
    pub(crate) fn draw(&self) -> Option<(u64, u64)> {
        let recording = self.recording.as_ref()?;
        let seed = recording.training?;
        let stream = recording.drawn.get();
        recording.drawn.set(stream + 1);
        Some((seed, stream))
    }

    /// Proposes a new value for a buffer. It is applied by
    /// [`Parameters::commit`](crate::Parameters::commit), once, however often the tape is swept.
    pub fn stage(&self, buffer: &Buffer, value: Tensor) {
        if let Some(recording) = &self.recording {
            recording.staged.borrow_mut().push(buffer.id(), value);
        }
    }

    /// The value last staged for a buffer, or the buffer's own: what a second forward pass on
    /// this tape starts from.
    #[must_use]
    pub fn latest(&self, buffer: &Buffer) -> Tensor {
        let staged = self.recording.as_ref().and_then(|r| r.staged.borrow().get(buffer.id()));
        staged.unwrap_or_else(|| buffer.value().clone())
    }

    /// The buffer updates proposed so far; leaves none behind.
    #[must_use]
    pub fn staged(&self) -> Staged {
        self.recording.as_ref().map(|r| r.staged.take()).unwrap_or_default()
    }

    /// [`Error::NotFinite`] naming the first record whose output has a NaN or an infinity, if there
    /// is one: what a training loop reports when its loss is not finite. What the tape does not hold
    /// is computed again.
    ///
    /// # Errors
    /// [`Error::TapeSpent`] after [`Tape::backward_once`]; [`Error::NoKernel`] when records have no
    /// numbers (meta device).
    pub fn first_non_finite(&self) -> Result<Option<Error>> {
        let Some(recording) = &self.recording else { return Ok(None) };
        recording.check_unspent("first_non_finite")?;
        let nodes = recording.nodes.borrow();
        let mut outputs: Vec<Tensor> = Vec::with_capacity(nodes.len());
        for (record, node) in nodes.iter().enumerate() {
            let output = node.output(|input| outputs[input].clone())?;
            if output.dtype().is_float() && output.to_f64_vec()?.iter().any(|x| !x.is_finite()) {
                let (op, shape) = (node.name(), *output.shape());
                return Ok(Some(Error::NotFinite { op, record, shape }));
            }
            outputs.push(output);
        }
        Ok(None)
    }

    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recording.as_ref().map_or(0, |r| r.nodes.borrow().len())
    }

    /// Whether nothing has been recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Taped {
    const CONSTANT: Self = Self { place: None };

    fn at(recording: &Rc<Recording>, id: NodeId) -> Self {
        Self { place: Some((Rc::downgrade(recording), id)) }
    }
}

impl Var {
    /// Whether this value is a record on a tape.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        self.history().place.is_some()
    }

    /// The tape this value is on; an off tape for constants.
    ///
    /// # Errors
    /// [`Error::TapeGone`] when it has been dropped.
    pub fn tape(&self) -> Result<Tape> {
        match &self.history().place {
            None => Ok(Tape::off()),
            Some((weak, _)) => {
                let recording = weak.upgrade().ok_or(Error::TapeGone)?;
                Ok(Tape { recording: Some(recording) })
            }
        }
    }

    /// A value that is not recorded: rules and losses mix such constants with recorded values.
    ///
    /// A layer fed with constants only is computed and not recorded, so that its parameters get no
    /// gradient from that call. A batch is no constant: hand it to [`Tape::input`].
    #[must_use]
    pub fn constant(value: &Tensor) -> Self {
        value.with_history(Taped::CONSTANT)
    }

    /// The same numbers as a constant: no gradient flows through.
    #[must_use]
    pub fn detach(&self) -> Self {
        self.with_history(Taped::CONSTANT)
    }

    /// The record's index, if it is on this recording.
    fn node_on(&self, recording: &Rc<Recording>) -> Option<NodeId> {
        match &self.history().place {
            Some((weak, id)) if std::ptr::eq(weak.as_ptr(), Rc::as_ptr(recording)) => Some(*id),
            _ => None,
        }
    }
}

impl History for Taped {
    fn run(op: Rc<dyn Op>, inputs: &[&Var]) -> Result<(Var, Saved)> {
        let recording = recording_of(op.name(), inputs)?;
        if let Some(recording) = &recording
            && let Some(cast) = recording.cast(&*op, inputs)?
        {
            return recording.casting(None, || Self::run(op, &cast.iter().collect::<Vec<_>>()));
        }
        let (output, saved) = op::run(&*op, inputs)?;
        let Some(recording) = recording else {
            return Ok((output.with_history(Self::CONSTANT), saved));
        };
        let id = recording.write(op, inputs, &output, &saved);
        Ok((output.with_history(Self::at(&recording, id)), saved))
    }

    fn constant(value: Tensor) -> Var {
        value.into_history(Self::CONSTANT)
    }
}

/// The recording that all recorded inputs share, if any is recorded.
fn recording_of(op: &'static str, inputs: &[&Var]) -> Result<Option<Rc<Recording>>> {
    let mut found: Option<&Weak<Recording>> = None;
    for input in inputs {
        if let Some((weak, _)) = &input.history().place {
            match found {
                Some(first) if !first.ptr_eq(weak) => return Err(Error::TapeMismatch { op }),
                _ => found = Some(weak),
            }
        }
    }
    found.map(|weak| weak.upgrade().ok_or(Error::TapeGone)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Parameter};

    #[test]
    fn the_first_record_that_is_not_finite_is_named() {
        let tape = Tape::new();
        let x = tape.input(Tensor::from_slice(&[1.0_f32, 0.0], [2]).unwrap());
        assert!(tape.first_non_finite().unwrap().is_none());
        let quotient = x.div(&x).unwrap();
        quotient.sum_all().unwrap();
        let found = tape.first_non_finite().unwrap();
        assert!(matches!(found, Some(Error::NotFinite { op: "div", record: 1, .. })), "{found:?}");
    }

    #[test]
    fn a_parameter_is_bound_once_and_a_tape_that_is_dropped_leaves_values_behind() {
        let p = Parameter::new(Tensor::ones([2], DType::F32));
        let tape = Tape::new();
        let (a, b) = (tape.bind(&p), tape.bind(&p));
        assert_eq!(tape.len(), 1);
        let y = a.add(&b).unwrap();
        drop(tape);
        assert_eq!(y.to_vec::<f32>().unwrap(), [2.0, 2.0]);
        assert!(matches!(y.relu(), Err(Error::TapeGone)));
    }

    #[test]
    fn an_off_tape_records_nothing_and_refuses_backward() {
        let tape = Tape::off();
        let x = tape.watch(Tensor::ones([1], DType::F32));
        let y = x.relu().unwrap();
        assert!(tape.is_empty() && !y.is_recorded());
        assert!(matches!(tape.backward(&y), Err(Error::NotRecorded { .. })));
    }

    #[test]
    fn inputs_from_two_tapes_are_refused() {
        let (one, two) = (Tape::new(), Tape::new());
        let [x, y] = [&one, &two].map(|t| t.watch(Tensor::ones([1], DType::F32)));
        assert!(matches!(x.add(&y), Err(Error::TapeMismatch { op: "add" })));
        assert!(matches!(two.backward(&x), Err(Error::TapeMismatch { .. })));
    }

    #[test]
    fn a_meta_tensor_gives_shapes_and_refuses_backward() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::meta([2, 3], DType::F32));
        let w = tape.watch(Tensor::meta([4, 3], DType::F32));
        let y = x.linear(&w, None).unwrap();
        assert_eq!(*y.shape(), crate::Shape::from([2, 4]));
        let loss = y.sum_all().unwrap();
        assert!(matches!(tape.backward(&loss), Err(Error::NoKernel { .. })));
    }
}
