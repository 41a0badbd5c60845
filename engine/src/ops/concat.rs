//! concat: tensors one after another along an axis.   Each gets its part of g.

use crate::dtype::for_element;
use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Element, Error, OpSpec, Result, Sample, Shape};

#[derive(Debug)]
struct Concat(usize);

impl<H: History> Tensor<H> {
    /// The tensors one after another along an axis.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are none, or they differ in another axis than this.
    pub fn concat(tensors: &[&Self], axis: isize) -> Result<Self> {
        let Some(first) = tensors.first() else {
            return Err(Error::shape("concat", "at least one tensor", &[]));
        };
        let axis = first.shape().axis("concat", axis)?;
        H::apply(Concat(axis), tensors)
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let first = inputs[0];
        let fits = |s: &&Shape| s.rank() == first.rank() && s.with(self.0, 0) == first.with(self.0, 0);
        if !inputs.iter().all(fits) {
            return Err(Error::shape("concat", format!("equal shapes but for axis {}", self.0), inputs));
        }
        let sizes = inputs.iter().map(|s| s[self.0]);
        Ok(first.with(self.0, sizes.fold(0, usize::saturating_add)))
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        match inputs.iter().find(|&&d| d != inputs[0]) {
            Some(&got) => Err(Error::DType { op: "concat", expected: inputs[0].to_string(), got }),
            None => Ok(inputs[0]),
        }
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_element!(inputs[0].dtype(), T => copy::<T>(self.0, inputs, out));
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let row = |shape: &[usize]| shape[self.0..].iter().product::<usize>();
        let total = inputs.iter().map(|v| row(v.shape())).sum();
        let (out, mut start) = (out.slice_mut(), 0);
        for input in inputs {
            let run = row(input.shape());
            kernels::cuda::strided::lay(input.gpu(), run, total, start, input.slice(), &out)?;
            start += run;
        }
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::Moved
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let mut start = 0;
        let mut parts = Vec::with_capacity(at.inputs.len());
        for (i, input) in at.inputs.iter().enumerate() {
            let len = input.shape()[self.0];
            parts.push(at.want(i, || at.grad.narrow(self.0 as isize, start, len))?);
            start += len;
        }
        Ok(parts)
    }
}

/// Each input is `outer` runs of (its size · inner); they are laid side by side.
fn copy<T: Element>(axis: usize, inputs: &[CpuView<'_>], out: &mut CpuStorage) {
    let runs: Vec<(&[T], usize)> = inputs
        .iter()
        .map(|v| (v.slice::<T>(), v.shape()[axis..].iter().product()))
        .collect();
    let outer: usize = inputs[0].shape()[..axis].iter().product();
    let mut rest = out.slice_mut::<T>();
    for i in 0..outer {
        for &(values, run) in &runs {
            let (head, tail) = rest.split_at_mut(run);
            head.copy_from_slice(&values[i * run..(i + 1) * run]);
            rest = tail;
        }
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "concat",
    samples: || {
        vec![
            Sample::new(vec![sample_input([2, 1]), sample_input([2, 3])], |x| {
                Var::concat(&[&x[0], &x[1], &x[0]], 1)
            }),
            Sample::new(vec![sample_input([2, 3]), sample_input([0, 3])], |x| {
                Var::concat(&[&x[0], &x[1]], 0)
            }),
        ]
    },
};
