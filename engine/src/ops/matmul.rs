//! matmul: C = A B, batched over leading axes.   dA = g Bᵀ, dB = Aᵀ g.

#[cfg(feature = "cuda")]
use kernels::cuda::gemm::Matrices;
use kernels::gemm::{self, Matrix};

use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
#[cfg(feature = "cuda")]
use crate::Layout;
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, for_float};

/// Of two batches of matrices, or of one matrix with a batch.
#[derive(Debug)]
struct Matmul;

impl<H: History> Tensor<H> {
    /// The matrix product over the last two axes; leading axes broadcast. Transposed views cost
    /// nothing: their strides go to the kernel. One matrix beside many is not repeated: on the right it
    /// multiplies the rows of all of them at once, and its gradient is one product over all their rows.
    ///
    /// # Shape
    /// `[.., m, k] · [.., k, n] → [.., m, n]`
    ///
    /// # Errors
    /// [`Error::Shape`] when the inner sizes differ or the leading axes do not broadcast.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let a = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], [2, 2])?;
    /// let b = Tensor::from_slice(&[1.0_f32, 10.0], [2, 1])?;
    /// assert_eq!(a.matmul(&b)?.to_vec::<f32>()?, [21.0, 43.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.shape(), other.shape());
        let shape = product_shape(&[a, b])?;
        let (of_a, of_b) = (lead(a), lead(b));
        if of_a == of_b {
            return H::apply(Matmul, &[self, other]);
        }
        if is_one(of_b) {
            let [k, n] = [b[b.rank() - 2], b[b.rank() - 1]];
            let rows = self.reshape([of_a.iter().product::<usize>() * a[a.rank() - 2], k])?;
            return H::apply(Matmul, &[&rows, &other.reshape([k, n])?])?.reshape(shape);
        }
        let full = |s: &Shape| Shape::new(&[lead(&shape), &s[s.rank() - 2..]].concat());
        if is_one(of_a) {
            let one = self.reshape([a[a.rank() - 2], a[a.rank() - 1]])?;
            return H::apply(Matmul, &[&one, &other.broadcast_to(full(b)?)?]);
        }
        H::apply(Matmul, &[&self.broadcast_to(full(a)?)?, &other.broadcast_to(full(b)?)?])
    }
}

/// The axes before a matrix's own.
fn lead(shape: &Shape) -> &[usize] {
    &shape[..shape.rank() - 2]
}

/// Whether there is one matrix.
fn is_one(lead: &[usize]) -> bool {
    lead.iter().all(|&size| size == 1)
}

fn product_shape(inputs: &[&Shape]) -> Result<Shape> {
    let [a, b] = [inputs[0], inputs[1]];
    let wrong = || Error::shape("matmul", "[.., m, k] · [.., k, n]", inputs);
    if a.rank() < 2 || b.rank() < 2 || a[a.rank() - 1] != b[b.rank() - 2] {
        return Err(wrong());
    }
    let batch = Shape::new(lead(a))?.broadcast(&Shape::new(lead(b))?).ok_or_else(wrong)?;
    Shape::new(&[&*batch, &[a[a.rank() - 2], b[b.rank() - 1]]].concat())
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        product_shape(inputs)
    }

    fn takes_strides(&self) -> bool {
        true
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => product::<T>(inputs, out.slice_mut::<T>()));
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, [a, b]) = (inputs[0].gpu(), [&inputs[0], &inputs[1]]);
        let batch = b.shape()[..b.shape().len() - 2].iter().product();
        // What cuBLAS cannot take as it lies is copied.
        let (copy_a, copy_b) = (packed(a)?, packed(b)?);
        let (Some(a), Some(b)) = (operand(a, copy_a.as_ref()), operand(b, copy_b.as_ref())) else {
            return Err(Error::NoKernel { op: self.name(), device: out.device() });
        };
        kernels::cuda::gemm::gemm(gpu, batch, 1.0, a, b, 0.0, &out.slice_mut())?;
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
        let [a, b] = at.inputs else { return Ok(Vec::new()) };
        let d_a = at.want(0, || match a.rank() == b.rank() {
            true => at.grad.matmul(&b.transpose(-1, -2)?),
            // Σ over the batch of g Bᵀ: one product, over the columns of all of them.
            false => columns(at.grad)?.transpose(0, 1)?.matmul(&columns(b)?),
        })?;
        let d_b = at.want(1, || a.transpose(-1, -2)?.matmul(at.grad))?;
        Ok(vec![d_a, d_b])
    }
}

/// The columns of a batch of matrices, as rows of one matrix.
fn columns(x: &Var) -> Result<Var> {
    let rows = x.shape()[x.rank() - 2];
    x.transpose(-1, -2)?.reshape([x.numel().checked_div(rows).unwrap_or(0), rows])
}

fn product<T: FloatElement>(inputs: &[CpuView<'_>], out: &mut [T]) {
    let (a, b) = (&inputs[0], &inputs[1]);
    let size = a.shape()[a.shape().len() - 2] * b.shape()[b.shape().len() - 1];
    let work = size * a.shape()[a.shape().len() - 1];
    gemm::batch(out, size, work, |i| (matrix(a, i), matrix(b, i)));
}

/// The `i`-th matrix of a batch.
fn matrix<'a, T: FloatElement>(view: &CpuView<'a>, i: usize) -> Matrix<'a, T> {
    let (dims, strides) = (view.shape(), view.layout().strides());
    let rank = dims.len();
    let all = view.storage::<T>();
    let start = view.layout().offset() + offset_of(i, &dims[..rank - 2], strides);
    let data = &all[start.min(all.len())..];
    Matrix::strided(data, dims[rank - 2], dims[rank - 1], strides[rank - 2], strides[rank - 1])
}

/// Where the `i`-th matrix of a batch starts.
fn offset_of(mut i: usize, lead: &[usize], strides: &[usize]) -> usize {
    let mut offset = 0;
    for (&size, &stride) in lead.iter().zip(strides).rev() {
        offset += i % size * stride;
        i /= size;
    }
    offset
}

/// A batch as cuBLAS takes it, if it lies so: one stride from each matrix to the next, and of rows or
/// columns one without gaps.
#[cfg(feature = "cuda")]
fn matrices<'a>(view: &CudaView<'a>) -> Option<Matrices<'a>> {
    let (dims, strides) = (view.shape(), view.layout().strides());
    let rank = dims.len();
    let mut batch = None;
    let mut next = 0;
    // LOOP: outwards over the leading axes; each must go on where the one inside it ends.
    for (&size, &stride) in dims[..rank - 2].iter().zip(strides).rev().filter(|&(&size, _)| size != 1) {
        if batch.is_some() && stride != next {
            return None;
        }
        batch.get_or_insert(stride);
        next = stride * size;
    }
    let matrices = Matrices {
        data: view.strided(),
        size: (dims[rank - 2], dims[rank - 1]),
        row: strides[rank - 2],
        column: strides[rank - 1],
        batch: batch.unwrap_or(0),
    };
    matrices.fits().then_some(matrices)
}

/// A copy without gaps of what [`matrices`] cannot take.
#[cfg(feature = "cuda")]
fn packed(view: &CudaView<'_>) -> Result<Option<(CudaStorage, Layout)>> {
    if matrices(view).is_some() {
        return Ok(None);
    }
    let (gpu, layout) = (view.gpu(), view.layout());
    let mut copy = CudaStorage::unspecified(gpu, view.dtype(), layout.shape().numel())?;
    let from = view.strided();
    kernels::cuda::strided::copy(gpu, layout.shape(), layout.strides(), from, &copy.slice_mut())?;
    Ok(Some((copy, Layout::contiguous(*layout.shape()))))
}

#[cfg(feature = "cuda")]
fn operand<'a>(
    view: &CudaView<'a>,
    copy: Option<&'a (CudaStorage, Layout)>,
) -> Option<Matrices<'a>> {
    match copy {
        Some((copy, layout)) => matrices(&CudaView::new(copy, layout)),
        None => matrices(view),
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "matmul",
    samples: || {
        let pair = |a: &[usize], b: &[usize]| {
            [a, b].map(|d| sample_input(Shape::new(d).unwrap_or_default())).to_vec()
        };
        vec![
            Sample::new(pair(&[2, 3], &[3, 4]), |x| x[0].matmul(&x[1])),
            Sample::new(pair(&[3, 2], &[4, 3]), |x| x[0].transpose(0, 1)?.matmul(&x[1].transpose(0, 1)?)),
            Sample::new(pair(&[2, 2, 3], &[3, 2]), |x| x[0].matmul(&x[1])),
            Sample::new(pair(&[2, 1, 2, 3], &[2, 3, 1]), |x| x[0].matmul(&x[1])),
            Sample::new(pair(&[2, 3], &[2, 3, 2]), |x| x[0].matmul(&x[1])),
            Sample::new(pair(&[1, 2, 3], &[2, 1, 3, 2]), |x| x[0].matmul(&x[1])),
            Sample::new(pair(&[2, 3, 1, 2], &[1, 1, 2, 3]), |x| x[0].matmul(&x[1])),
            Sample::new(pair(&[2, 3, 2], &[4, 3]), |x| {
                x[0].transpose(1, 2)?.matmul(&x[1].transpose(0, 1)?.narrow(1, 0, 2)?)
            }),
            Sample::new(pair(&[2, 0], &[0, 3]), |x| x[0].matmul(&x[1])),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Rng, Tape};

    fn random(shape: &[usize], dtype: DType) -> Tensor {
        let shape = Shape::new(shape).unwrap();
        let x = Tensor::normal(shape, 0.0, 1.0, DType::F64, &mut Rng::new(shape.numel() as u64));
        x.to_dtype(dtype).unwrap()
    }

    /// x · w, the gradients of ⟨c, x w⟩, and the bytes of all that the sweep computed for them.
    fn run(x: &Tensor, w: &Tensor) -> (Tensor, [Tensor; 2], usize) {
        let tape = Tape::new();
        let (x, w) = (tape.watch(x.clone()), tape.watch(w.clone()));
        let y = x.matmul(&w).unwrap();
        let c = random(y.shape(), DType::F64).to_dtype(y.dtype()).unwrap();
        let loss = y.mul(&Var::constant(&c)).unwrap().sum_all().unwrap();
        let before = tape.memory(None).bytes();
        let grads = tape.backward_recorded(&loss).unwrap();
        let computed = tape.memory(None).bytes() - before;
        (y.value(), [&x, &w].map(|v| grads.of_var(v).unwrap().value()), computed)
    }

    #[test]
    fn one_matrix_beside_many_is_not_repeated_for_its_gradient() {
        for (x, w) in [([64, 2, 32], [1, 32, 64]), ([1, 64, 32], [64, 32, 2])] {
            let (x, w) = (random(&x, DType::F32), random(&w, DType::F32));
            let without_batch = |t: &Tensor| match t.shape()[0] {
                1 => t.reshape(Shape::new(&t.shape()[1..]).unwrap()).unwrap(),
                _ => t.clone(),
            };
            let (y, [dx, dw], bytes) = run(&without_batch(&x), &without_batch(&w));
            assert_eq!(*y.shape(), Shape::from([64, x.shape()[1], w.shape()[2]]));
            // A matrix of 8 KiB for each of 64 would be half a MiB.
            assert!(bytes < 256 << 10, "{bytes}");
            // The definition: one product after the other.
            let part = |t: &Tensor, i: usize| {
                let n = t.shape()[0];
                let one = t.narrow(0, i.min(n - 1), 1).unwrap();
                one.reshape(Shape::new(&t.shape()[1..]).unwrap()).unwrap()
            };
            let c = random(y.shape(), DType::F64).to_dtype(DType::F32).unwrap();
            let (mut sums, mut far) = ([None::<Tensor>, None], 0.0_f64);
            let mut close = |a: &Tensor, b: &Tensor| {
                let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
                far = a.iter().zip(&b).fold(far, |m, (a, b)| m.max((a - b).abs()));
            };
            for i in 0..64 {
                let (x_i, w_i, c_i) = (part(&x, i), part(&w, i), part(&c, i));
                close(&part(&y, i), &x_i.matmul(&w_i).unwrap());
                let t = |x: &Tensor| x.transpose(0, 1).unwrap();
                let each = [c_i.matmul(&t(&w_i)).unwrap(), t(&x_i).matmul(&c_i).unwrap()];
                for ((sum, each), whole) in sums.iter_mut().zip(each).zip([&dx, &dw]) {
                    if whole.rank() == 3 {
                        close(&part(whole, i), &each);
                        continue;
                    }
                    *sum = Some(match sum.take() {
                        Some(sum) => sum.add(&each).unwrap(),
                        None => each,
                    });
                }
            }
            for (sum, whole) in sums.iter().zip([&dx, &dw]) {
                sum.iter().for_each(|sum| close(whole, sum));
            }
            // Sums of up to 128 products of numbers of size 1, in f32.
            assert!(far < 1e-4, "{far}");
        }
    }

    #[test]
    fn the_gradient_of_a_shared_matrix_is_summed_before_it_is_rounded() {
        for (dtype, ulp) in [(DType::F16, -11), (DType::BF16, -8)] {
            for (x, w) in [([256, 4, 8], [1, 8, 8]), ([1, 8, 8], [256, 8, 4])] {
                let (x, w) = (random(&x, dtype), random(&w, dtype));
                let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
                let (_, got, _) = run(&x, &w);
                let (_, want, _) = run(&wide(&x), &wide(&w));
                let shared = usize::from(w.shape()[0] == 1);
                let (got, want) = (got[shared].to_f64_vec().unwrap(), want[shared].to_f64_vec().unwrap());
                let largest = want.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
                // The seed c is rounded once, and the sum of 1024 products once.
                let far = got.iter().zip(&want).fold(0.0_f64, |m, (a, b)| m.max((a - b).abs()));
                assert!(far <= 2.0 * 2_f64.powi(ulp) * largest, "{dtype}: {far} of {largest}");
            }
        }
    }
}
