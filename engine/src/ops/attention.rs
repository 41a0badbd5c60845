//! attention: O = P V with P = softmax(s Q Kᵀ).   With dP = g Vᵀ and dS = s P ∘ (dP − rowsum(P ∘ dP)):
//! dQ = dS K,   dK = dSᵀ Q,   dV = Pᵀ g.   Vaswani et al. 2017, eq. 1.

use kernels::attention as kernel;
#[cfg(feature = "cuda")]
use kernels::cuda::attention as cuda;

use crate::op::halves::in_f32;
use crate::op::{Halves, Keeps, Op, Saved, Site, expect_dtype, same_float, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Taped, Tensor, Var};
use crate::{DType, Error, FloatElement, OpSpec, Result, Sample, Shape, for_float};

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttentionMask {
    /// All of them.
    #[default]
    None,
    /// No later one: the T queries are the last of the S positions, and query i sees the keys
    /// 0 ..= i + S − T.
    Causal,
}

#[derive(Debug, Clone, Copy)]
struct Attention {
    mask: AttentionMask,
    scale: f64,
}

impl<H: History> Tensor<H> {
    /// Scaled dot-product attention: for every query the mean of the values, weighted by the softmax
    /// of the products of query and keys. One op, which never holds the T × S matrix of weights on the
    /// CPU, and on CUDA holds it during the call alone. A query all of whose scores are −∞ has no weights:
    /// its result is 0, and so are its gradients.
    ///
    /// # Shape
    /// self (queries): `[.., T, d]` · keys: `[.., S, d]` · values: `[.., S, e]` · result: `[.., T, e]`;
    /// leading axes (examples, heads) are equal
    ///
    /// # Units
    /// `scale` multiplies the products; 1/√d keeps their variance at 1.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit, a size other than a leading one is 0, or there are
    /// more causal queries than keys; [`Error::Argument`] for a scale that is not finite.
    ///
    /// # Source
    /// Vaswani et al. 2017, eq. 1. With fewer queries than keys a causal mask ends at the last key (for
    /// generation with kept keys), where PyTorch's `is_causal` starts at the first.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Tensor, ops::attention::AttentionMask};
    /// let q = Tensor::from_slice(&[0.0_f64, 0.0], [2, 1])?; // all scores are equal
    /// let v = Tensor::from_slice(&[1.0_f64, 3.0], [2, 1])?;
    /// assert_eq!(q.attention(&q, &v, AttentionMask::None, 1.0)?.to_vec::<f64>()?, [2.0, 2.0]);
    /// assert_eq!(q.attention(&q, &v, AttentionMask::Causal, 1.0)?.to_vec::<f64>()?, [1.0, 2.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn attention(
        &self,
        keys: &Self,
        values: &Self,
        mask: AttentionMask,
        scale: f64,
    ) -> Result<Self> {
        if !scale.is_finite() {
            let got = scale.to_string();
            let (name, expected) = ("scale", "finite");
            return Err(Error::Argument { op: "attention", name, expected, got });
        }
        H::apply(Attention { mask, scale }, &[self, keys, values])
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let wrong = || {
            let causal = if self.mask == AttentionMask::Causal { " and T ≤ S" } else { "" };
            let expected = format!("[.., T, d], [.., S, d], [.., S, e], none of them 0{causal}");
            Error::shape("attention", expected, inputs)
        };
        let split = |i: usize| match &**inputs[i] {
            [lead @ .., rows, width] if rows * width > 0 => Ok((lead, *rows, *width)),
            _ => Err(wrong()),
        };
        let (q, k, v) = (split(0)?, split(1)?, split(2)?);
        let leads = q.0 == k.0 && q.0 == v.0;
        let causal = self.mask == AttentionMask::None || q.1 <= k.1;
        if !(leads && causal && q.2 == k.2 && k.1 == v.1) {
            return Err(wrong());
        }
        Ok(inputs[0].with(q.0.len() + 1, v.2))
    }

    /// Saves the logarithm of the sum of every query's exponentials.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let sizes = self.sizes([0, 1, 2].map(|i| inputs[i].shape()));
        let dtype = inputs[0].dtype();
        let mut log_sums = CpuStorage::unspecified(dtype, sizes.heads * sizes.queries);
        for_float!(dtype, T => {
            let [q, k, v] = [0, 1, 2].map(|i| inputs[i].slice::<T>());
            kernel::attention(&sizes, q, k, v, out.slice_mut(), log_sums.slice_mut());
        });
        let shape = Shape::new(inputs[0].shape())?;
        Ok(vec![Tensor::from_cpu(log_sums, shape.without(shape.rank() - 1))])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let sizes = self.sizes([0, 1, 2].map(|i| inputs[i].shape()));
        let (gpu, shape) = (inputs[0].gpu(), Shape::new(inputs[0].shape())?);
        let queries = sizes.heads * sizes.queries;
        let mut log_sums = CudaStorage::unspecified(gpu, inputs[0].dtype().computed_in(), queries)?;
        let all = [0, 1, 2].map(|i| inputs[i].slice());
        cuda::forward(gpu, &sizes, all, &out.slice_mut(), &log_sums.slice_mut())?;
        Ok(vec![Tensor::from_cuda(log_sums, shape.without(shape.rank() - 1))])
    }

    fn is_product(&self) -> bool {
        true
    }

    fn halves(&self) -> Halves {
        Halves::InCudaAndRule
    }

    fn keeps(&self) -> Keeps {
        Keeps::ALL
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let ([q, k, v], [log_sums]) = (at.inputs, at.saved) else { return Ok(Vec::new()) };
        if at.is_recorded() {
            return in_f32(at, self.keeps(), |at| self.composed(at));
        }
        let log_sums = Var::constant(log_sums);
        let inputs = [q, k, v, at.output, &log_sums, at.grad];
        let (d_q, others) = Taped::apply_saving(Backward(*self), &inputs)?;
        // What is saved of 16 bits that were widened is f32.
        let others = others.iter().map(|d| Ok(Some(Var::constant(&d.to_dtype(q.dtype())?))));
        std::iter::once(Ok(Some(d_q))).chain(others).collect()
    }
}

impl Attention {
    fn sizes(&self, [q, k, v]: [&[usize]; 3]) -> kernel::Attention {
        let rank = q.len();
        kernel::Attention {
            heads: q[..rank - 2].iter().product(),
            queries: q[rank - 2],
            keys: k[rank - 2],
            width: q[rank - 1],
            values: v[rank - 1],
            causal: self.mask == AttentionMask::Causal,
            scale: self.scale,
        }
    }

    /// The rule above, written with ops. Here the weights are written down.
    fn composed(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [q, k, v] = at.inputs else { return Ok(Vec::new()) };
        let t = |x: &Var| x.transpose(-1, -2);
        let mut scores = q.matmul(&t(k)?)?.scale(self.scale)?;
        if self.mask == AttentionMask::Causal {
            let (queries, keys) = (q.size(-2)?, k.size(-2)?);
            let hidden = Tensor::from_fn([queries, keys], q.dtype(), |at| {
                let later = at % keys > at / keys + keys - queries;
                if later { f64::NEG_INFINITY } else { 0.0 }
            });
            scores = scores.add(&Var::constant(&hidden.to_device(q.device())?))?;
        }
        let p = scores.softmax(-1)?;
        let d_v = at.want(2, || t(&p)?.matmul(at.grad))?;
        if !(at.needs[0] || at.needs[1]) {
            return Ok(vec![None, None, d_v]);
        }
        let d_p = at.grad.matmul(&t(v)?)?;
        let mean = p.mul(&d_p)?.sum_keep(&[-1])?;
        let d_s = d_p.sub(&mean)?.mul(&p)?.scale(self.scale)?;
        let d_q = at.want(0, || d_s.matmul(k))?;
        let d_k = at.want(1, || t(&d_s)?.matmul(q))?;
        Ok(vec![d_q, d_k, d_v])
    }
}

/// All gradients in one kernel: the output is dQ; dK and dV are saved. Inputs Q, K, V, O, the
/// logarithms of sums, g.
#[derive(Debug)]
struct Backward(Attention);

impl Op for Backward {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    /// The logarithms of sums are f32 beside 16 bits.
    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        let half =
            same_float("attention", &[inputs[0], inputs[1], inputs[2], inputs[3], inputs[5]])?;
        expect_dtype("attention", inputs[4], half.computed_in())?;
        Ok(half)
    }

    fn halves(&self) -> Halves {
        Halves::InCuda
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let sizes = self.0.sizes([0, 1, 2].map(|i| inputs[i].shape()));
        for_float!(inputs[0].dtype(), T => gradients::<T>(&sizes, inputs, out.slice_mut()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let [q, k, v, output, log_sums, g] = [0, 1, 2, 3, 4, 5].map(|i| inputs[i].slice());
        let (gpu, shapes) = (inputs[0].gpu(), [0, 1, 2].map(|i| inputs[i].shape()));
        let gradient =
            |of: usize| CudaStorage::unspecified(gpu, inputs[0].dtype(), inputs[of].slice().len());
        let (mut d_k, mut d_v) = (gradient(1)?, gradient(2)?);
        let gradients = [&out.slice_mut(), &d_k.slice_mut(), &d_v.slice_mut()];
        let sizes = self.0.sizes(shapes);
        cuda::backward(gpu, &sizes, [q, k, v], [output, log_sums, g], gradients)?;
        let shaped = |d, i: usize| Ok::<_, Error>(Tensor::from_cuda(d, Shape::new(shapes[i])?));
        Ok(vec![shaped(d_k, 1)?, shaped(d_v, 2)?])
    }
}

fn gradients<T: FloatElement>(
    sizes: &kernel::Attention,
    inputs: &[CpuView<'_>],
    d_q: &mut [T],
) -> Result<Saved> {
    let [q, k, v, out, log_sums, g] = [0, 1, 2, 3, 4, 5].map(|i| inputs[i].slice::<T>());
    let [mut d_k, mut d_v] = [k, v].map(|x| CpuStorage::unspecified(T::DTYPE, x.len()));
    let grads = (d_q, d_k.slice_mut(), d_v.slice_mut());
    kernel::attention_backward(sizes, (q, k, v), out, log_sums, g, grads);
    let shaped = |d, i: usize| Ok::<_, Error>(Tensor::from_cpu(d, Shape::new(inputs[i].shape())?));
    Ok(vec![shaped(d_k, 1)?, shaped(d_v, 2)?])
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "attention",
    samples: || {
        let sample = |q: Shape, k: Shape, v: Shape, mask| {
            let inputs = vec![sample_input(q), sample_input(k), sample_input(v)];
            Sample::new(inputs, move |x| x[0].attention(&x[1].neg()?, &x[2], mask, 0.7))
        };
        let (all, causal) = (AttentionMask::None, AttentionMask::Causal);
        vec![
            sample([3, 2].into(), [4, 2].into(), [4, 3].into(), all),
            sample([2, 1, 3, 2].into(), [2, 1, 3, 2].into(), [2, 1, 3, 1].into(), causal),
            sample([2, 2, 1].into(), [2, 5, 1].into(), [2, 5, 2].into(), causal),
            Sample::new(vec![sample_input([4, 2])], move |x| {
                x[0].transpose(0, 1)?.attention(
                    &x[0].transpose(0, 1)?,
                    &x[0].reshape([2, 4])?,
                    all,
                    0.5,
                )
            }),
            sample([0, 3, 2].into(), [0, 3, 2].into(), [0, 3, 2].into(), causal),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: &Tensor, b: &Tensor) {
        let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-14), "{a:?} {b:?}");
    }

    #[test]
    fn it_is_softmax_between_two_products() {
        let [q, k, v] = [[2, 5, 3], [2, 7, 3], [2, 7, 4]].map(sample_input);
        let got = q.attention(&k, &v, AttentionMask::None, 0.3).unwrap();
        let scores = q.matmul(&k.transpose(-1, -2).unwrap()).unwrap().scale(0.3).unwrap();
        close(&got, &scores.softmax(-1).unwrap().matmul(&v).unwrap());
    }

    /// What makes generation with kept keys right: a query's result does not change when later
    /// positions are added, nor when earlier queries are left out.
    #[test]
    fn a_causal_query_sees_what_came_before_it_and_nothing_later() {
        let [q, k, v] = [[1, 6, 3], [1, 6, 3], [1, 6, 2]].map(sample_input);
        let causal = |q: &Tensor, k: &Tensor, v: &Tensor| {
            q.attention(k, v, AttentionMask::Causal, 0.5).unwrap()
        };
        let all = causal(&q, &k, &v);
        let first = |x: &Tensor, n| x.narrow(1, 0, n).unwrap();
        close(&first(&all, 4), &causal(&first(&q, 4), &first(&k, 4), &first(&v, 4)));
        let last = |x: &Tensor, n| x.narrow(1, 6 - n, n).unwrap();
        close(&last(&all, 2), &causal(&last(&q, 2), &k, &v));
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        let (causal, all) = (AttentionMask::Causal, AttentionMask::None);
        let shape = |q: &[usize], k: &[usize], v: &[usize], mask| {
            let got = zeros(q).attention(&zeros(k), &zeros(v), mask, 1.0);
            assert!(matches!(got, Err(Error::Shape { op: "attention", .. })), "{got:?}");
        };
        shape(&[3, 2], &[4, 3], &[4, 2], all); // d
        shape(&[3, 2], &[4, 2], &[3, 2], all); // S
        shape(&[2, 3, 2], &[1, 4, 2], &[2, 4, 2], all); // leading axes
        shape(&[2], &[4, 2], &[4, 2], all); // rank
        shape(&[3, 2], &[0, 2], &[0, 2], all); // no keys
        shape(&[5, 2], &[4, 2], &[4, 2], causal); // the first query would see nothing
        let x = zeros(&[2, 2]);
        let scale = x.attention(&x, &x, all, f64::NAN);
        assert!(matches!(scale, Err(Error::Argument { op: "attention", name: "scale", .. })));
    }
}
