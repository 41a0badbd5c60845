//! The recording: what ran, in which order, and the numbers that backward rules will look at.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

use super::{NodeId, Staged, Taped};
use crate::op::{self, Keeps, Op, Saved};
use crate::tensor::{Tensor, Var};
use crate::{DType, Error, ParamId, Result, Shape};

/// What a tape owns.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) nodes: RefCell<Vec<Node>>,
    /// The leaves of parameters: the one whose gradient is wanted, and the one that is a constant.
    pub(super) bound: RefCell<HashMap<(ParamId, bool), NodeId>>,
    /// Parameters that are bound now are constants.
    pub(super) fixed: Cell<bool>,
    pub(super) staged: RefCell<Staged>,
    /// The seed of dropout masks; `None` in evaluation mode.
    pub(super) training: Option<u64>,
    /// How many random ops have run: each has a stream of its own.
    pub(super) drawn: Cell<u64>,
    /// Records whose numbers are dropped, and computed again when a sweep comes to them.
    pub(super) checkpoints: RefCell<Vec<Range<NodeId>>>,
    /// What products are cast to, in a part of the forward pass.
    pub(super) autocast: Cell<Option<DType>>,
    /// What sweeps multiply gradients by, and divide out again.
    pub(super) loss_scale: Cell<Option<f64>>,
    /// Where the outermost checkpoint that is being recorded begins.
    pub(super) open: Cell<Option<NodeId>>,
    /// A sweep has freed the numbers.
    pub(super) spent: Cell<bool>,
    /// A sweep is on its way.
    pub(super) sweeping: Cell<bool>,
}

/// A record: what ran, on what, and what came out.
#[derive(Debug)]
pub(super) struct Node {
    /// `None` for leaves.
    pub(super) op: Option<Rc<dyn Op>>,
    pub(super) inputs: Vec<NodeId>,
    pub(super) shape: Shape,
    pub(super) dtype: DType,
    /// The numbers: of leaves, and of what a rule [keeps](Op::keeps).
    pub(super) output: Option<Tensor>,
    pub(super) saved: Saved,
    /// For leaves made by [`Tape::bind`](super::Tape::bind), and casts of such.
    pub(super) param: Option<ParamId>,
    pub(super) needs_grad: bool,
}

impl Node {
    pub(super) fn leaf(value: Tensor, param: Option<ParamId>, needs_grad: bool) -> Self {
        Self {
            op: None,
            inputs: Vec::new(),
            shape: *value.shape(),
            dtype: value.dtype(),
            output: Some(value),
            saved: Saved::new(),
            param,
            needs_grad,
        }
    }

    /// The op's name, or what kind of leaf this is.
    pub(super) fn name(&self) -> &'static str {
        let leaf = if self.param.is_some() { "parameter" } else { "input" };
        self.op.as_ref().map_or(leaf, |op| op.name())
    }

    /// The output and what the kernel saves: of an operation, computed again from the inputs.
    fn run(&self, input: impl Fn(NodeId) -> Tensor) -> Result<(Tensor, Saved)> {
        match (&self.op, &self.output) {
            (Some(op), _) => {
                let inputs: Vec<Tensor> = self.inputs.iter().map(|&i| input(i)).collect();
                op::run(&**op, &inputs.iter().collect::<Vec<_>>())
            }
            (None, Some(leaf)) => Ok((leaf.clone(), Saved::new())),
            (None, None) => Err(Error::TapeSpent { op: self.name() }),
        }
    }

    /// The output: held, or computed again.
    pub(super) fn output(&self, input: impl Fn(NodeId) -> Tensor) -> Result<Tensor> {
        match &self.output {
            Some(held) => Ok(held.clone()),
            None => Ok(self.run(input)?.0),
        }
    }

    fn free(&mut self) {
        self.output = None;
        self.saved.clear();
    }

    /// The numbers if they are held, else their shape.
    pub(super) fn seen(&self) -> Tensor {
        self.output.clone().unwrap_or_else(|| Tensor::meta(self.shape, self.dtype))
    }

    fn keeps(&self) -> Keeps {
        self.op.as_ref().map_or(Keeps::OUTPUT, |op| op.keeps())
    }
}

impl Recording {
    pub(super) fn push(&self, node: Node) -> NodeId {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(node);
        nodes.len() - 1
    }

    /// Writes down what an op made of its inputs. Of the numbers, only those stay that its rule
    /// will look at: an input becomes worth holding when somebody who keeps inputs uses it.
    pub(super) fn write(
        &self,
        op: Rc<dyn Op>,
        inputs: &[&Var],
        output: &Tensor,
        saved: &Saved,
    ) -> NodeId {
        let ids: Vec<NodeId> = inputs.iter().map(|v| self.place(v)).collect();
        let mut nodes = self.nodes.borrow_mut();
        let differentiable = output.dtype().is_float();
        let needs_grad = differentiable && ids.iter().any(|&i| nodes[i].needs_grad);
        let keeps = op.keeps();
        // A checkpoint is run again from what came into it.
        let comes_in = |id| self.open.get().is_some_and(|start| id < start);
        for (&id, input) in ids.iter().zip(inputs) {
            if needs_grad && keeps.inputs || comes_in(id) {
                nodes[id].output.get_or_insert_with(|| input.value());
            }
        }
        let param = ids.first().filter(|_| op.is_cast()).and_then(|&id| nodes[id].param);
        nodes.push(Node {
            op: Some(op),
            inputs: ids,
            shape: *output.shape(),
            dtype: output.dtype(),
            output: (needs_grad && keeps.output).then(|| output.clone()),
            saved: if needs_grad { saved.clone() } else { Saved::new() },
            param,
            needs_grad,
        });
        nodes.len() - 1
    }

    /// The record of an input; a constant becomes a leaf.
    fn place(&self, input: &Var) -> NodeId {
        match &input.history().place {
            Some((_, id)) => *id,
            None => self.push(Node::leaf(input.value(), None, false)),
        }
    }

    /// # Errors
    /// [`Error::TapeSwept`] in the middle of another sweep.
    pub(super) fn check_still(&self, op: &'static str) -> Result<()> {
        if self.sweeping.get() { Err(Error::TapeSwept { op }) } else { Ok(()) }
    }

    /// # Errors
    /// [`Error::TapeSpent`] when the numbers have been freed.
    pub(super) fn check_unspent(&self, op: &'static str) -> Result<()> {
        if self.spent.get() { Err(Error::TapeSpent { op }) } else { Ok(()) }
    }

    /// What a rule sees of the value at `id`. In a recorded sweep it may look at anything, so what
    /// is not held is computed again; else a value that nobody keeps is its shape alone.
    pub(super) fn var(self: &Rc<Self>, id: NodeId, recorded: bool) -> Result<Var> {
        if recorded {
            return Ok(self.value(id)?.into_history(Taped::at(self, id)));
        }
        Ok(self.nodes.borrow()[id].seen().into_history(Taped::CONSTANT))
    }

    /// The numbers at `id`, held from now on.
    fn value(&self, id: NodeId) -> Result<Tensor> {
        let mut nodes = self.nodes.borrow_mut();
        // Everything missing that this one needs, computed in the order of the recording.
        let (mut missing, mut ahead) = (BTreeSet::new(), vec![id]);
        while let Some(next) = ahead.pop() {
            if nodes[next].output.is_none() && missing.insert(next) {
                ahead.extend(&nodes[next].inputs);
            }
        }
        for next in missing {
            let output = nodes[next].output(|i| nodes[i].seen())?;
            nodes[next].output = Some(output);
        }
        Ok(nodes[id].seen())
    }

    /// Computes the records of a checkpoint again, and holds what their rules keep. Returns those
    /// that were held anyhow.
    pub(super) fn restore(&self, checkpoint: Range<NodeId>) -> Result<Vec<NodeId>> {
        let mut nodes = self.nodes.borrow_mut();
        let start = checkpoint.start;
        let before = checkpoint.clone().filter(|&id| nodes[id].output.is_some()).collect();
        let mut outputs: Vec<Tensor> = Vec::with_capacity(checkpoint.len());
        for id in checkpoint {
            let value = |i: NodeId| match i.checked_sub(start) {
                Some(inside) => outputs[inside].clone(),
                None => nodes[i].seen(),
            };
            let (output, saved) = nodes[id].run(value)?;
            let keeps = nodes[id].keeps();
            if keeps.inputs {
                for i in nodes[id].inputs.clone() {
                    if let Some(inside) = i.checked_sub(start) {
                        nodes[i].output.get_or_insert_with(|| outputs[inside].clone());
                    }
                }
            }
            if keeps.output {
                nodes[id].output = Some(output.clone());
            }
            nodes[id].saved = saved;
            outputs.push(output);
        }
        Ok(before)
    }

    /// Drops the numbers of records that can be computed again, but for the outputs of `held`.
    pub(super) fn release(&self, records: Range<NodeId>, held: &[NodeId]) {
        let mut nodes = self.nodes.borrow_mut();
        for (id, node) in records.clone().zip(&mut nodes[records]) {
            node.saved.clear();
            if node.op.is_some() && !held.contains(&id) {
                node.output = None;
            }
        }
    }

    /// Drops the numbers of one record for good.
    pub(super) fn free(&self, id: NodeId) {
        self.nodes.borrow_mut()[id].free();
    }
}
