//! matmul: C = A B, batched over leading axes.   dA = g Bᵀ, dB = Aᵀ g.

#[cfg(feature = "cuda")]
use kernels::cuda::gemm::{Matrices, Results};
use kernels::gemm::{self, Matrix};

#[cfg(feature = "cuda")]
use crate::op::batch::{Batch, Leading};
use crate::op::batch::{offset_of, sizes, steps};
use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
#[cfg(feature = "cuda")]
use crate::Layout;
use crate::shape::MAX_RANK;
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, for_float};

/// Of two batches of matrices, of one rank, whose leading axes broadcast.
#[derive(Debug)]
struct Matmul;

impl<H: History> Tensor<H> {
    /// The matrix product over the last two axes; leading axes broadcast. Transposed views cost
    /// nothing: their strides go to the kernel. One matrix beside many is not repeated, along all leading axes or
    /// some: on the right it multiplies the rows of all of them at once, and its gradient is one product over all
    /// their rows (on the left, over all their columns).
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
        if lead(a) == lead(b) {
            return H::apply(Matmul, &[self, other]);
        }
        let axes = a.rank().max(b.rank()) - 2;
        let full = |s: &Shape| [&[1; MAX_RANK][..axes + 2 - s.rank()], &**s].concat();
        let (a, b) = (full(a), full(b));
        // LOOP: inwards to the first axis from which on there is one matrix on the right: for all rows.
        let shared = axes - b[..axes].iter().rev().take_while(|&&size| size == 1).count();
        let rows = Shape::new(&a[shared..=axes])?.numel();
        let a = Shape::new(&[&a[..shared], &[rows, a[axes + 1]]].concat())?;
        let b = Shape::new(&[&b[..shared], &b[axes..]].concat())?;
        H::apply(Matmul, &[&self.reshape(a)?, &other.reshape(b)?])?.reshape(shape)
    }
}

/// The axes before a matrix's own.
fn lead(shape: &[usize]) -> &[usize] {
    &shape[..shape.len() - 2]
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
        // What cuBLAS cannot take as it lies is copied.
        let (copy_a, copy_b) = (packed(a)?, packed(b)?);
        let (Some((a, of_a)), Some((b, of_b))) =
            (operand(a, copy_a.as_ref()), operand(b, copy_b.as_ref()))
        else {
            return Err(Error::NoKernel { op: self.name(), device: out.device() });
        };
        let batch = Batch::new(a.size.0 * b.size.1, [of_a, of_b]);
        let to = out.slice_mut();
        for [at_a, at_b, start] in batch.starts() {
            let [step_a, step_b, step_c] = batch.steps;
            let (a, b) = (from(a, at_a, step_a), from(b, at_b, step_b));
            let c = Results { data: &to, start, batch: step_c };
            kernels::cuda::gemm::gemm_into(gpu, batch.count, 1.0, a, b, 0.0, c)?;
        }
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
        // A matrix beside many gets the sum of their gradients: as one product.
        let d_a = at.want(0, || {
            let many = shared(a, [at.grad, b]);
            let (g, b) = (joined(at.grad, &many, false)?, joined(b, &many, false)?);
            g.matmul(&b.transpose(-1, -2)?)?.reshape(*a.shape())
        })?;
        let d_b = at.want(1, || {
            let many = shared(b, [a, at.grad]);
            let (a, g) = (joined(a, &many, true)?, joined(at.grad, &many, true)?);
            a.transpose(-1, -2)?.matmul(&g)?.reshape(*b.shape())
        })?;
        Ok(vec![d_a, d_b])
    }
}

/// The leading axes along which there is one matrix of `x` beside many others.
fn shared(x: &Var, others: [&Var; 2]) -> Vec<usize> {
    let many = |axis: &usize| others.iter().any(|other| other.shape()[*axis] != 1);
    let lead = lead(x.shape()).iter().enumerate();
    lead.filter(|(_, size)| **size == 1).map(|(axis, _)| axis).filter(many).collect()
}

/// The matrices along some of the leading axes as one: one beneath the other, or side by side.
fn joined(x: &Var, along: &[usize], beneath: bool) -> Result<Var> {
    if along.is_empty() {
        return Ok(x.clone());
    }
    let (axes, shape) = (x.rank() - 2, x.shape());
    let mut order: Vec<usize> = (0..axes).filter(|axis| !along.contains(axis)).collect();
    let mut sizes: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let [rows, columns] = [shape[axes], shape[axes + 1]];
    let many: usize = along.iter().map(|&axis| shape[axis]).product();
    if beneath {
        order.extend(along.iter().copied().chain([axes, axes + 1]));
        sizes.extend([many * rows, columns]);
    } else {
        order.extend([axes].into_iter().chain(along.iter().copied()).chain([axes + 1]));
        sizes.extend([rows, many * columns]);
    }
    let order: Vec<isize> = order.into_iter().map(|axis| axis as isize).collect();
    x.permute(&order)?.reshape(Shape::new(&sizes)?)
}

fn product<T: FloatElement>(inputs: &[CpuView<'_>], out: &mut [T]) {
    let (a, b) = (&inputs[0], &inputs[1]);
    let size = a.shape()[a.shape().len() - 2] * b.shape()[b.shape().len() - 1];
    let work = size.saturating_mul(a.shape()[a.shape().len() - 1]);
    let batch = [a, b].map(|x| (lead(x.shape()), x.layout().strides()));
    let lead = sizes(batch.map(|(lead, _)| lead));
    let [of_a, of_b] = batch.map(|(own, strides)| steps(own, strides));
    gemm::batch(out, size, work, |i| {
        (matrix(a, offset_of(i, &lead, &of_a)), matrix(b, offset_of(i, &lead, &of_b)))
    });
}

/// The matrix that begins so far after the first.
fn matrix<'a, T: FloatElement>(view: &CpuView<'a>, at: usize) -> Matrix<'a, T> {
    let (dims, strides) = (view.shape(), view.layout().strides());
    let rank = dims.len();
    let all = view.storage::<T>();
    let data = &all[(view.layout().offset() + at).min(all.len())..];
    Matrix::strided(data, dims[rank - 2], dims[rank - 1], strides[rank - 2], strides[rank - 1])
}

/// Matrices as cuBLAS takes them, if they lie so: of rows or columns one without gaps.
#[cfg(feature = "cuda")]
fn matrices<'a>(view: &CudaView<'a>) -> Option<Matrices<'a>> {
    let (dims, strides) = (view.shape(), view.layout().strides());
    let rank = dims.len();
    let matrices = Matrices {
        data: view.strided(),
        size: (dims[rank - 2], dims[rank - 1]),
        row: strides[rank - 2],
        column: strides[rank - 1],
        batch: 0,
    };
    matrices.fits().then_some(matrices)
}

/// The matrices from one on, with a step from each to the next.
#[cfg(feature = "cuda")]
fn from(x: Matrices<'_>, at: usize, batch: usize) -> Matrices<'_> {
    let at = x.data.len().min(at); // Beyond the end lie matrices without a number.
    Matrices { data: x.data.part(at, x.data.len() - at), batch, ..x }
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

/// The matrices, with their leading sizes and strides.
#[cfg(feature = "cuda")]
fn operand<'a>(
    view: &CudaView<'a>,
    copy: Option<&'a (CudaStorage, Layout)>,
) -> Option<(Matrices<'a>, Leading<'a>)> {
    let of = |view: CudaView<'a>, layout: &'a Layout| {
        Some((matrices(&view)?, (lead(layout.shape()), layout.strides())))
    };
    match copy {
        Some((copy, layout)) => of(CudaView::new(copy, layout), layout),
        None => of(*view, view.layout()),
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
            Sample::new(pair(&[2, 1, 2, 2], &[1, 3, 2, 1]), |x| x[0].matmul(&x[1])),
            Sample::new(pair(&[2, 1, 2, 1, 2], &[2, 2, 1, 2, 1]), |x| x[0].matmul(&x[1])),
            Sample::new(pair(&[3, 2, 1, 2], &[2, 2, 2]), |x| x[0].transpose(0, 1)?.matmul(&x[1].reshape([2, 1, 2, 2])?)),
            Sample::new(pair(&[2, 1, 2, 2], &[0, 2, 1]), |x| x[0].matmul(&x[1])),
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
    fn batches_that_broadcast_in_part_have_the_products_and_gradients_of_repeated_ones() {
        for (a, b) in [
            (vec![3, 1, 2, 4], vec![1, 5, 4, 3]),
            (vec![3, 1, 2, 4], vec![3, 5, 4, 3]),
            (vec![3, 5, 2, 4], vec![3, 1, 4, 3]),
            (vec![3, 5, 2, 4], vec![1, 5, 4, 3]),
            (vec![5, 2, 4], vec![3, 1, 4, 3]),
            (vec![2, 1, 3, 1, 2, 4], vec![1, 2, 3, 2, 4, 3]),
            (vec![3, 0, 2, 4], vec![3, 1, 4, 3]),
            (vec![3, 1, 2, 4], vec![1, 0, 4, 3]),
        ] {
            let (a, b) = (random(&a, DType::F64), random(&b, DType::F64));
            let batch = Shape::new(lead(a.shape())).unwrap();
            let batch = batch.broadcast(&Shape::new(lead(b.shape())).unwrap()).unwrap();
            let repeated = |t: &Tensor| {
                let own = &t.shape()[t.rank() - 2..];
                let full = Shape::new(&[&*batch, own].concat()).unwrap();
                t.broadcast_to(full).unwrap().contiguous().unwrap()
            };
            let (y, grads, _) = run(&a, &b);
            let (want, repeated, _) = run(&repeated(&a), &repeated(&b));
            let close = |x: &Tensor, y: &Tensor| {
                assert_eq!(x.shape(), y.shape());
                let far = x.sub(y).unwrap().to_f64_vec().unwrap();
                far.iter().for_each(|far| assert!(far.abs() < 1e-12, "{far}"));
            };
            close(&y, &want);
            for ((grad, whole), of) in grads.iter().zip(&repeated).zip([&a, &b]) {
                // What `broadcast_to` hands back.
                let tape = Tape::new();
                let one = tape.watch(of.clone());
                let sum = one.broadcast_to(*whole.shape()).unwrap();
                let sum = sum.mul(&Var::constant(whole)).unwrap().sum_all().unwrap();
                close(grad, tape.backward(&sum).unwrap().of_var(&one).unwrap());
            }
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
