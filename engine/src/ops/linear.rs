//! linear: y = x Wᵀ + b.   dx = g W, dW = gᵀ x, db = Σ g over all rows.

#[cfg(feature = "cuda")]
use kernels::cuda::gemm::Matrices;
use kernels::gemm::{self, Matrix};

use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::Layer;
use crate::tensor::{History, Tensor, Var};
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct Linear;

impl<H: History> Tensor<H> {
    /// The affine map over the last axis: one record on the tape, so that its weight, input and
    /// output gradient can be seen together.
    ///
    /// # Shape
    /// x: `[.., in]` · weight: `[out, in]` · bias: `[out]` · result: `[.., out]`
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit.
    pub fn linear(&self, weight: &Self, bias: Option<&Self>) -> Result<Self> {
        match bias {
            Some(bias) => H::apply(Linear, &[self, weight, bias]),
            None => H::apply(Linear, &[self, weight]),
        }
    }
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let (x, w) = (inputs[0], inputs[1]);
        let fits = x.rank() > 0 && w.rank() == 2 && x.last() == Some(&w[1]);
        if !fits || inputs.get(2).is_some_and(|b| ***b != [w[0]]) {
            let expected = "x [.., in], weight [out, in], bias [out]";
            return Err(Error::shape("linear", expected, inputs));
        }
        Ok(x.with(x.rank() - 1, w[0]))
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => affine::<T>(inputs, out.slice_mut::<T>()));
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, x, w) = (inputs[0].gpu(), inputs[0].slice(), inputs[1].slice());
        let &[width, size] = inputs[1].shape() else { return Ok(Saved::new()) };
        let rows = out.len().checked_div(width).unwrap_or(0);
        let out = out.slice_mut();
        if let Some(bias) = inputs.get(2) {
            kernels::cuda::affine::affine(gpu, [rows, size, width], x, w, bias.slice(), &out)?;
            return Ok(Saved::new());
        }
        let (x, w) = (Matrices::new(x, rows, size), Matrices::new(w, width, size).t());
        kernels::cuda::gemm::gemm(gpu, 1, 1.0, x, w, 0.0, &out)?;
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::InCudaAndRule
    }

    fn is_product(&self) -> bool {
        true
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (x, w) = (&at.inputs[0], &at.inputs[1]);
        let count = x.shape()[..x.rank() - 1].iter().product();
        let rows = |v: &Var, width| v.reshape([count, width]);
        let g = rows(at.grad, w.shape()[0])?;
        let d_x = at.want(0, || g.matmul(w)?.reshape(*x.shape()))?;
        let d_w = at.want(1, || g.transpose(0, 1)?.matmul(&rows(x, w.shape()[1])?))?;
        let mut all = vec![d_x, d_w];
        if at.inputs.len() > 2 {
            all.push(at.want(2, || g.sum(&[0]))?);
        }
        Ok(all)
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::Dense)
    }
}

fn affine<T: FloatElement>(inputs: &[CpuView<'_>], out: &mut [T]) {
    let (x, w) = (inputs[0].slice::<T>(), inputs[1].slice::<T>());
    let &[width, size] = inputs[1].shape() else { return };
    let rows = out.len().checked_div(width).unwrap_or(0);
    let beta = match inputs.get(2) {
        // The bias is laid down first, so that the product adds to it while it is in cache.
        Some(bias) => {
            let bias = bias.slice::<T>();
            kernels::parallel::rows(out, width, width, |_, row| row.copy_from_slice(bias));
            T::ONE
        }
        None => T::ZERO,
    };
    gemm::gemm(
        T::ONE,
        Matrix::new(x, rows, size),
        Matrix::new(w, width, size).t(),
        beta,
        out,
    );
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "linear",
    samples: || {
        vec![
            Sample::new(
                vec![sample_input([3, 4]), sample_input([2, 4]), sample_input([2])],
                |x| x[0].linear(&x[1], Some(&x[2])),
            ),
            Sample::new(vec![sample_input([2, 3, 4]), sample_input([2, 4])], |x| x[0].linear(&x[1], None)),
            Sample::new(vec![sample_input([4]), sample_input([1, 4]), sample_input([1])], |x| {
                x[0].linear(&x[1], Some(&x[2]))
            }),
            Sample::new(vec![sample_input([2, 0]), sample_input([3, 0]), sample_input([3])], |x| {
                x[0].linear(&x[1], Some(&x[2]))
            }),
            Sample::new(vec![sample_input([0, 2]), sample_input([3, 2]), sample_input([3])], |x| {
                x[0].linear(&x[1], Some(&x[2]))
            }),
        ]
    },
};
