//! `Replay`: a pass on a CUDA device that is captured once and launched again with other numbers.

use std::sync::{Arc, Mutex, PoisonError};

use kernels::cuda::{Gpu, Graph};

use super::{Gradients, LayerObserver, LayerRecord, Tape};
use crate::dtype::for_element;
use crate::tensor::{Tensor, Var};
use crate::{DType, Error, ParamId, Parameters, Result};

/// Forward and backward pass as one launch ([`Graph`]): for models whose many small kernels keep the host
/// busier than the device.
///
/// The shapes, and whatever the pass reads from main memory, are those of the capture. What changes from
/// launch to launch: the inputs (of which the pass gets copies), the model's parameters and buffers (which stay where they are), and the seed
/// of dropout. Layer records, if they are asked for, are all there at once, not one after the other: they
/// take memory.
///
/// # Example
/// ```no_run
/// use alcyon_engine::{Device, Parameter, Replay, Result, Tape, Tensor};
/// let device = Device::cuda(0)?;
/// let mut weight = Parameter::new(Tensor::from_slice(&[2.0_f32], [1])?.to_device(device)?);
/// let x = Tensor::from_slice(&[3.0_f32], [1])?;
/// let replay = Replay::capture(&mut weight, &[&x], 0, false, |weight: &Parameter, tape: &Tape, x| {
///     tape.bind(weight).mul(&tape.input(x[0].clone()))?.square()?.sum_all()
/// })?;
/// assert!(replay.launch(&weight, &[&x], 0)?);
/// assert_eq!(replay.loss().item()?, 36.0);
/// assert_eq!(replay.gradients().of(&weight).unwrap().item()?, 36.0);
/// # Ok::<(), alcyon_engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Replay {
    pass: Graph,
    /// Copies of what was staged for the buffers to where they are.
    commit: Graph,
    /// For whom, and what to copy where the graph cannot: the staged tensors of the buffers.
    moved: Vec<(ParamId, Tensor)>,
    gpu: Arc<Gpu>,
    seed: u64,
    /// What the pass copies its inputs from, which nobody else has.
    inputs: Mutex<Vec<Tensor>>,
    loss: Tensor,
    gradients: Gradients,
    seen: Option<Vec<Seen>>,
    /// Where the model's tensors are; `None` for one in main memory.
    places: Vec<Option<u64>>,
    /// What each pass adds to buffers of integers, which are counted by the host.
    counts: Vec<(ParamId, Vec<i64>)>,
}

/// What an observer was told.
#[derive(Debug)]
enum Seen {
    Layer(Box<LayerRecord>),
    Unlayered(ParamId, &'static str),
}

impl Replay {
    /// Captures the pass that ends in a scalar loss, and its [`Tape::backward_once`]. Nothing is computed
    /// until [`Replay::launch`]. The pass should have been made once without, with its buffers committed: then
    /// its kernels are loaded, and counters are where the host counts them.
    ///
    /// # Errors
    /// [`Error::Argument`] for a model that is not on a CUDA device; what the pass refuses; and
    /// [`Error::Cuda`] when it reads numbers, of which there are none yet.
    pub fn capture<M: Parameters + ?Sized>(
        model: &mut M,
        inputs: &[&Tensor],
        seed: u64,
        observed: bool,
        pass: impl FnOnce(&M, &Tape, &[Tensor]) -> Result<Var>,
    ) -> Result<Self> {
        let gpu = gpu_of(model)?;
        let own = |x: &&Tensor| own(x, &gpu);
        let inputs = inputs.iter().map(own).collect::<Result<Vec<_>>>()?;
        let copy = |x: &Tensor| -> Result<Tensor> {
            let mut copy = x.clone();
            copy.make_cuda_mut()?; // Two have it: this makes one of its own.
            Ok(copy)
        };
        for (_, buffer) in model.buffers_mut() {
            if buffer.value().gpu().is_some() {
                buffer.value_mut().make_cuda_mut()?; // It will be written in place.
            }
        }
        let mut seen = Vec::new();
        let ((loss, gradients, staged), pass) = gpu.capture(|| {
            let tape = Tape::training(seed);
            let inputs = inputs.iter().map(copy).collect::<Result<Vec<_>>>()?;
            let loss = pass(model, &tape, &inputs)?;
            let observer: &mut dyn LayerObserver = &mut seen;
            let gradients = tape.backward_once(&loss, observed.then_some(observer))?;
            Ok::<_, Error>((loss.value(), gradients, tape.staged()))
        })?;
        let (mut moved, mut counts) = (Vec::new(), Vec::new());
        for (path, buffer) in model.buffers() {
            let Some(new) = staged.get(buffer.id()) else { continue };
            let (old, expected) = (buffer.value(), "integers, or numbers that stay on the device");
            match (old.cuda_slice(), new.cuda_slice()) {
                (Some(_), Some(_)) if (old.shape(), old.dtype()) == (new.shape(), new.dtype()) => {
                    moved.push((buffer.id(), new));
                }
                (None, None) if new.dtype() == DType::I64 && old.dtype() == DType::I64 => {
                    let (old, new) = (old.to_vec::<i64>()?, new.to_vec::<i64>()?);
                    counts.push((buffer.id(), new.iter().zip(old).map(|(n, o)| n - o).collect()));
                }
                _ => {
                    let (op, name, got) = ("replay", "buffer", new.to_string());
                    return Err(Error::Argument { op, name, expected, got }.in_layer(&path));
                }
            }
        }
        let ((), commit) = gpu.capture(|| move_buffers(&gpu, model, &moved))?;
        let (places, seen) = (places(model), observed.then_some(seen));
        let inputs = Mutex::new(inputs);
        Ok(Self { pass, commit, moved, gpu, seed, inputs, loss, gradients, seen, places, counts })
    }

    /// Computes loss, gradients and records from these inputs, the model as it is, and dropout's masks of this
    /// seed. False, and nothing is done, if the inputs have other shapes or the model's tensors are no longer
    /// where they were: then capture again.
    ///
    /// # Errors
    /// [`Error::Cuda`] for what the driver refuses.
    pub fn launch<M: Parameters + ?Sized>(
        &self,
        model: &M,
        inputs: &[&Tensor],
        seed: u64,
    ) -> Result<bool> {
        let alike = |(a, b): (&Tensor, &&Tensor)| a.shape() == b.shape() && a.dtype() == b.dtype();
        let mut own = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = inputs.len() == own.len()
            && own.iter().zip(inputs).all(alike)
            && places(model) == self.places;
        if !fits {
            return Ok(false);
        }
        for (to, from) in own.iter_mut().zip(inputs) {
            self.refill(to, from)?;
        }
        self.pass.shift_seeds(seed.wrapping_sub(self.seed))?;
        self.pass.launch()?;
        Ok(true)
    }

    /// The loss of the last launch: a scalar on the device, which reading waits for.
    #[must_use]
    pub const fn loss(&self) -> &Tensor {
        &self.loss
    }

    /// The gradients of the last launch. They lie where the next launch writes.
    #[must_use]
    pub const fn gradients(&self) -> &Gradients {
        &self.gradients
    }

    /// Whether layer records are kept.
    #[must_use]
    pub const fn is_observed(&self) -> bool {
        self.seen.is_some()
    }

    /// Hands out the last launch's layer records, in the order of the sweep.
    ///
    /// # Errors
    /// The observer's own.
    pub fn observe(&self, observer: &mut dyn LayerObserver) -> Result<()> {
        self.seen.iter().flatten().try_for_each(|seen| match seen {
            Seen::Layer(record) => observer.observe(record),
            Seen::Unlayered(param, op) => observer.unlayered(*param, op),
        })
    }

    /// Applies the buffer updates of the last launch, once: running means and variances. Where a buffer is no
    /// longer where it was, or somebody has a clone of its tensor, which stays as it is, the buffer moves, and
    /// [`Replay::launch`] asks for another capture.
    ///
    /// # Errors
    /// [`Error::Cuda`] for what the driver refuses.
    pub fn commit<M: Parameters + ?Sized>(&self, model: &mut M) -> Result<()> {
        for (_, buffer) in model.buffers_mut() {
            if self.moved.iter().any(|(id, _)| *id == buffer.id()) {
                buffer.value_mut().make_cuda_mut()?;
            }
        }
        if places(model) == self.places {
            self.commit.launch()?;
        } else {
            move_buffers(&self.gpu, model, &self.moved)?;
        }
        for (_, buffer) in model.buffers_mut() {
            let counted = self.counts.iter().find(|(id, _)| *id == buffer.id());
            if let Some((_, more)) = counted {
                let count = buffer.value_mut().make_mut::<i64>()?;
                count.iter_mut().zip(more).for_each(|(count, more)| *count += more);
            }
        }
        Ok(())
    }

    fn refill(&self, to: &mut Tensor, from: &Tensor) -> Result<()> {
        let from = from.contiguous()?;
        let to = to.make_cuda_mut()?;
        match from.cuda_slice() {
            Some(there) => self.gpu.refill_from(&to, there)?,
            None => for_element!(from.dtype(), T => self.gpu.refill(&to, from.as_slice::<T>()?)?),
        }
        Ok(())
    }
}

impl LayerObserver for Vec<Seen> {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        self.push(Seen::Layer(Box::new(record.clone())));
        Ok(())
    }

    fn unlayered(&mut self, param: ParamId, op: &'static str) -> Result<()> {
        self.push(Seen::Unlayered(param, op));
        Ok(())
    }
}

/// Copies what was staged to the model's buffers, in place.
fn move_buffers<M: Parameters + ?Sized>(
    gpu: &Gpu,
    model: &mut M,
    moved: &[(ParamId, Tensor)],
) -> Result<()> {
    for (_, buffer) in model.buffers_mut() {
        let new = moved.iter().find(|(id, _)| *id == buffer.id());
        if let Some(new) = new.and_then(|(_, new)| new.cuda_slice()) {
            gpu.refill_from(&buffer.value_mut().make_cuda_mut()?, new)?;
        }
    }
    Ok(())
}

/// The CUDA device of a model's parameters.
fn gpu_of<M: Parameters + ?Sized>(model: &M) -> Result<Arc<Gpu>> {
    let parameters = model.parameters();
    let elsewhere = parameters.iter().find(|(_, p)| p.value().gpu().is_none());
    match (elsewhere, parameters.first().and_then(|(_, p)| p.value().gpu())) {
        (None, Some(gpu)) => Ok(Arc::clone(gpu)),
        (found, _) => {
            let got = found.map_or_else(
                || "no parameters".to_owned(),
                |(path, p)| format!("`{path}` on {}", p.value().device()),
            );
            let (op, name, expected) = ("replay", "model", "parameters on a CUDA device");
            Err(Error::Argument { op, name, expected, got })
        }
    }
}

/// A copy on the device that nobody else has.
fn own(x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
    let mut own = x.to_device(crate::Device::Cuda(gpu.info().ordinal))?;
    own.make_cuda_mut()?;
    Ok(own)
}

fn places<M: Parameters + ?Sized>(model: &M) -> Vec<Option<u64>> {
    let place = |x: &Tensor| x.cuda_slice().map(|slice| slice.pointer());
    let parameters = model.parameters();
    let buffers = model.buffers();
    let all =
        parameters.iter().map(|(_, p)| p.value()).chain(buffers.iter().map(|(_, b)| b.value()));
    all.map(place).collect()
}
