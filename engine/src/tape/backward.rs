//! The backward pass: one loop over records, from the last to the first.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use super::observe::observe;
use super::{Gradients, LayerObserver, NodeId, Recording, Tape, VarGradients};
use crate::op::{Op, Saved, Site, halves};
use crate::tensor::{Tensor, Var};
use crate::{Device, Error, ParamId, Result};

/// What a sweep is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Gradients of everything that wants one.
    Gradients,
    /// The same, and the numbers on the tape are freed on the way.
    LastGradients,
    /// Only the layers' output gradients: parameters get none.
    LayersOnly,
}

impl Tape {
    /// The gradients of a scalar with respect to every parameter and watched variable.
    ///
    /// # Errors
    /// [`Error::Shape`] when `loss` is not a scalar, [`Error::NotRecorded`] or
    /// [`Error::TapeMismatch`] when it is not on this tape.
    pub fn backward(&self, loss: &Var) -> Result<Gradients> {
        self.gradients("backward", loss, Purpose::Gradients, None)
    }

    /// The same, and hands each layer's input and output gradient to `observer` on the way. The
    /// output gradients carry the 1/N of the mean loss.
    ///
    /// # Errors
    /// As [`Tape::backward`], and whatever the observer returns.
    pub fn backward_observed(
        &self,
        loss: &Var,
        observer: &mut dyn LayerObserver,
    ) -> Result<Gradients> {
        self.gradients("backward_observed", loss, Purpose::Gradients, Some(observer))
    }

    /// The same in less memory, and for once: what a record holds is freed when the sweep has
    /// passed it. Parameters are let go too, so that an update can write in place. The table of
    /// records stays; sweeping again is [`Error::TapeSpent`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Tape, Tensor};
    /// let tape = Tape::new();
    /// let x = tape.watch(Tensor::ones([3], DType::F64));
    /// let loss = x.square()?.sum_all()?;
    /// let gradients = tape.backward_once(&loss, None)?;
    /// assert_eq!(gradients.of_var(&x).unwrap().to_vec::<f64>()?, [2.0; 3]);
    /// assert_eq!(tape.memory(None).bytes(), 0);
    /// assert!(tape.backward_once(&loss, None).is_err());
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tape::backward`], and whatever the observer returns; the tape is spent then too.
    pub fn backward_once(
        &self,
        loss: &Var,
        observer: Option<&mut dyn LayerObserver>,
    ) -> Result<Gradients> {
        self.gradients("backward_once", loss, Purpose::LastGradients, observer)
    }

    /// Sweeps from any value with a given gradient `seed` of it, for the layer records alone: no
    /// gradients of parameters are computed. Returns those of watched variables.
    ///
    /// # Errors
    /// [`Error::Shape`] when `seed` does not have the value's shape; else as [`Tape::backward`].
    pub fn sweep(
        &self,
        from: &Var,
        seed: Tensor,
        observer: &mut dyn LayerObserver,
    ) -> Result<Gradients> {
        if seed.shape() != from.shape() {
            return Err(Error::shape(
                "sweep",
                "a seed of the value's shape",
                &[from.shape(), seed.shape()],
            ));
        }
        let (recording, root) = self.root("sweep", from)?;
        let mut grads = Gradients::new(recording);
        let seed = seed.into_history(super::Taped::CONSTANT);
        let keep = |id, used, grad: Var| grads.insert(id, used, grad.value());
        recording.down(root, seed, Purpose::LayersOnly, Some(observer), keep)?;
        Ok(grads)
    }

    /// The gradients as values on this same tape: a program that can be differentiated again.
    ///
    /// # Errors
    /// As [`Tape::backward`]; [`Error::NotTwiceDifferentiable`] comes when *their* gradient is
    /// asked for.
    pub fn backward_recorded(&self, loss: &Var) -> Result<VarGradients> {
        let (recording, root) = self.root("backward_recorded", loss)?;
        let seed = self.input(scalar_seed(loss)?);
        let mut grads = VarGradients::new(recording);
        let keep = |id, used: Option<(ParamId, _)>, grad| {
            grads.insert(id, used.map(|(param, _)| param), grad);
        };
        recording.down(root, seed, Purpose::Gradients, None, keep)?;
        Ok(grads)
    }

    fn gradients(
        &self,
        op: &'static str,
        loss: &Var,
        purpose: Purpose,
        observer: Option<&mut dyn LayerObserver>,
    ) -> Result<Gradients> {
        let (recording, root) = self.root(op, loss)?;
        let seed = Var::constant(&scalar_seed(loss)?);
        let mut grads = Gradients::new(recording);
        let keep = |id, used, grad: Var| grads.insert(id, used, grad.value());
        recording.down(root, seed, purpose, observer, keep)?;
        Ok(grads)
    }

    fn root(&self, op: &'static str, from: &Var) -> Result<(&Rc<Recording>, NodeId)> {
        let recording = self.recording.as_ref().ok_or(Error::NotRecorded { op })?;
        match from.node_on(recording) {
            Some(id) => {
                recording.check_still(op)?;
                recording.check_unspent(op).map(|()| (recording, id))
            }
            // A tape that has been dropped is said so; a living one is simply not this one.
            None if from.is_recorded() => from.tape().and(Err(Error::TapeMismatch { op })),
            None => Err(Error::NotRecorded { op }),
        }
    }
}

fn scalar_seed(loss: &Var) -> Result<Tensor> {
    if loss.device() == Device::Meta {
        return Err(Error::NoKernel { op: "backward", device: Device::Meta });
    }
    if loss.numel() != 1 {
        return Err(Error::shape("backward", "a scalar loss", &[loss.shape()]));
    }
    Tensor::full_on(loss.device(), *loss.shape(), 1.0, loss.dtype())
}

/// A record, copied out of the recording so that rules may push new ones.
struct Record {
    op: Rc<dyn Op>,
    inputs: Vec<NodeId>,
    saved: Saved,
}

/// A checkpoint whose numbers are there while the sweep passes it.
struct Restored {
    records: Range<NodeId>,
    /// The records whose outputs are held for others' sake.
    held: Vec<NodeId>,
}

impl Recording {
    /// The loop. `keep` receives the gradient of each leaf that wants one; of a parameter, with the op that
    /// used it last. If `seed` is recorded, so is everything the rules compute.
    fn down(
        self: &Rc<Self>,
        root: NodeId,
        seed: Var,
        purpose: Purpose,
        observer: Option<&mut dyn LayerObserver>,
        keep: impl FnMut(NodeId, Option<(ParamId, &'static str)>, Var),
    ) -> Result<()> {
        self.sweeping.set(true);
        // Rules get what they want as it is.
        let done = self.casting(None, || self.loop_down(root, seed, purpose, observer, keep));
        self.sweeping.set(false);
        done
    }

    fn loop_down(
        self: &Rc<Self>,
        root: NodeId,
        seed: Var,
        purpose: Purpose,
        mut observer: Option<&mut dyn LayerObserver>,
        mut keep: impl FnMut(NodeId, Option<(ParamId, &'static str)>, Var),
    ) -> Result<()> {
        let last = purpose == Purpose::LastGradients;
        if last {
            self.spent.set(true);
            let all = self.nodes.borrow().len();
            (root + 1..all).for_each(|id| self.free(id));
        }
        let recorded = seed.is_recorded();
        let seed = self.scaled(seed)?;
        let mut checkpoint: Option<Restored> = None;
        let mut grads: Vec<Option<Var>> = vec![None; root + 1];
        let mut users: HashMap<ParamId, &'static str> = HashMap::new();
        // Whether a layer has used what is computed there.
        let mut beneath = vec![false; root + 1];
        grads[root] = Some(seed);
        for id in (0..=root).rev() {
            if let Some(grad) = grads[id].take() {
                self.restore_around(id, &mut checkpoint)?;
                match self.record(id) {
                    None => {
                        if let Some(param) = self.wanted(id) {
                            let user =
                                |param| (param, users.get(&param).copied().unwrap_or("backward"));
                            keep(id, param.map(user), self.unscaled(grad)?);
                        }
                    }
                    Some(record) => {
                        for param in self.params_of(&record) {
                            users.entry(param).or_insert(record.op.name());
                        }
                        if let Some(observer) = observer.as_deref_mut() {
                            observe(self, id, (&grad, !beneath[id]), observer)?;
                        }
                        if beneath[id] || record.op.layer().is_some() {
                            record.inputs.iter().for_each(|&input| beneath[input] = true);
                        }
                        self.rule(id, &record, grad, purpose, &mut grads)?;
                    }
                }
            }
            if last {
                self.free(id);
            }
            // What a recorded sweep wrote down may look at these numbers later.
            if let Some(passed) = checkpoint.take_if(|c| c.records.start == id)
                && !recorded
            {
                self.release(passed.records, &passed.held);
            }
        }
        Ok(())
    }

    /// Applies a record's rule, and adds what it says to the gradients of the inputs.
    fn rule(
        self: &Rc<Self>,
        id: NodeId,
        record: &Record,
        grad: Var,
        purpose: Purpose,
        grads: &mut [Option<Var>],
    ) -> Result<()> {
        let needs = self.needs(&record.inputs, purpose);
        if !needs.contains(&true) {
            return Ok(());
        }
        let recorded = grad.is_recorded();
        let inputs: Result<Vec<Var>> =
            record.inputs.iter().map(|&i| self.var(i, recorded)).collect();
        let site = Site {
            inputs: &inputs?,
            output: &self.var(id, recorded)?,
            saved: &record.saved,
            grad: &grad,
            needs: &needs,
        };
        let rule = halves::backward(&*record.op, &site)?;
        drop(grad);
        for ((&input, new), wanted) in record.inputs.iter().zip(rule).zip(needs) {
            if let (Some(new), true) = (new, wanted) {
                debug_assert_eq!(
                    *new.shape(),
                    self.nodes.borrow()[input].shape,
                    "{}: a gradient has its input's shape",
                    record.op.name()
                );
                let sum = match grads[input].take() {
                    None => new,
                    Some(old) => add(old, &new)?,
                };
                grads[input] = Some(sum);
            }
        }
        Ok(())
    }

    /// If the record is in a checkpoint, that has its numbers from here on.
    fn restore_around(&self, id: NodeId, restored: &mut Option<Restored>) -> Result<()> {
        if restored.is_none() {
            let checkpoints = self.checkpoints.borrow();
            if let Some(records) = checkpoints.iter().find(|records| records.contains(&id)) {
                let held = self.restore(records.clone())?;
                *restored = Some(Restored { records: records.clone(), held });
            }
        }
        Ok(())
    }

    /// The record at `id`, if it is an operation whose gradient is wanted.
    fn record(&self, id: NodeId) -> Option<Record> {
        let nodes = self.nodes.borrow();
        let node = &nodes[id];
        let op = Rc::clone(node.op.as_ref().filter(|_| node.needs_grad)?);
        Some(Record { op, inputs: node.inputs.clone(), saved: node.saved.clone() })
    }

    /// Of a leaf whose gradient is wanted: which parameter it is, if it is one.
    fn wanted(&self, id: NodeId) -> Option<Option<ParamId>> {
        let node = &self.nodes.borrow()[id];
        (node.op.is_none() && node.needs_grad).then_some(node.param)
    }

    /// The parameters among a record's inputs, as they are or cast.
    fn params_of(&self, record: &Record) -> Vec<ParamId> {
        let nodes = self.nodes.borrow();
        record.inputs.iter().filter_map(|&input| nodes[input].param).collect()
    }

    fn needs(&self, inputs: &[NodeId], purpose: Purpose) -> Vec<bool> {
        let nodes = self.nodes.borrow();
        let wanted = |&i: &NodeId| {
            let node = &nodes[i];
            node.needs_grad && (purpose != Purpose::LayersOnly || node.param.is_none())
        };
        inputs.iter().map(wanted).collect()
    }
}

/// The sum of two gradients of one value; in place where nobody else holds the first.
fn add(old: Var, new: &Var) -> Result<Var> {
    if old.is_recorded() || new.is_recorded() {
        return old.add(new);
    }
    let mut sum = old.value();
    drop(old);
    let in_place = sum.device() == Device::Cpu && !sum.dtype().is_half();
    let unshared = in_place && sum.storage_mut().is_some();
    if !unshared || !sum.layout().is_contiguous() || !new.layout().is_contiguous() {
        return Ok(Var::constant(&sum.add(&new.value())?));
    }
    let new = new.value();
    crate::for_float!(sum.dtype(), T => {
        kernels::elementwise::update2(sum.make_mut::<T>()?, new.as_slice::<T>()?, |a, b| a + b);
    });
    Ok(Var::constant(&sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, LayerRecord, Parameter};

    /// Does something with the loss's tape at every layer.
    struct Meddling<F>(Var, F);

    impl<F: FnMut(&Var) -> Result<()>> LayerObserver for Meddling<F> {
        fn observe(&mut self, _: &LayerRecord) -> Result<()> {
            (self.1)(&self.0)
        }

        fn unlayered(&mut self, _: ParamId, _: &'static str) -> Result<()> {
            (self.1)(&self.0)
        }
    }

    /// A layer and a penalty, so that both ways of an observer are asked.
    fn taped() -> (Tape, Var) {
        let weight = Parameter::new(Tensor::ones([2, 3], DType::F64));
        let tape = Tape::new();
        let (x, w) = (tape.input(Tensor::ones([4, 3], DType::F64)), tape.bind(&weight));
        let output = x.linear(&w, None).unwrap().sum_all().unwrap();
        let loss = output.add(&w.square().unwrap().sum_all().unwrap()).unwrap();
        (tape, loss)
    }

    #[test]
    fn an_observer_that_records_on_the_tape_being_swept_is_refused_and_the_tape_stays_whole() {
        let whole = |tape: &Tape, loss: &Var| {
            let gradients = tape.backward(loss).unwrap();
            gradients.get(gradients.params()[0]).unwrap().to_vec::<f64>().unwrap()
        };
        let meddling: [fn(&Var) -> Result<()>; 5] = [
            |loss| loss.square().map(drop),
            |loss| loss.tape().map(|tape| drop(tape.input(Tensor::ones([1], DType::F64)))),
            |loss| loss.tape()?.backward(loss).map(drop),
            |loss| loss.tape()?.backward_once(loss, None).map(drop),
            |loss| loss.tape()?.backward_recorded(loss).map(drop),
        ];
        for meddle in meddling {
            let (tape, loss) = taped();
            let expected = whole(&tape, &loss);
            let done = tape.backward_observed(&loss, &mut Meddling(loss.clone(), meddle));
            assert!(matches!(done, Err(Error::TapeSwept { .. })), "{done:?}");
            assert_eq!(whole(&tape, &loss), expected);
        }
        // Reading is free.
        let (tape, loss) = taped();
        let reading = |loss: &Var| loss.tape()?.first_non_finite().map(drop);
        tape.backward_observed(&loss, &mut Meddling(loss.clone(), reading)).unwrap();
    }
}
