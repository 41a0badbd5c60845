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

#[derive(Debug)]
struct Matmul;

impl<H: History> Tensor<H> {
    /// The matrix product over the last two axes; leading axes broadcast. Transposed views cost
    /// nothing: their strides go to the kernel.
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
        if a.rank() > 2 || b.rank() > 2 {
            let batch = product_shape(&[a, b])?;
            let lead = &batch[..batch.rank() - 2];
            let full = |s: &Shape| Shape::new(&[lead, &s[s.rank() - 2..]].concat());
            let (left, right) = (self.broadcast_to(full(a)?)?, other.broadcast_to(full(b)?)?);
            return H::apply(Matmul, &[&left, &right]);
        }
        H::apply(Matmul, &[self, other])
    }
}

fn product_shape(inputs: &[&Shape]) -> Result<Shape> {
    let [a, b] = [inputs[0], inputs[1]];
    let wrong = || Error::shape("matmul", "[.., m, k] · [.., k, n]", inputs);
    if a.rank() < 2 || b.rank() < 2 || a[a.rank() - 1] != b[b.rank() - 2] {
        return Err(wrong());
    }
    let lead = |s: &Shape| Shape::new(&s[..s.rank() - 2]);
    let lead = lead(a)?.broadcast(&lead(b)?).ok_or_else(wrong)?;
    Shape::new(&[&*lead, &[a[a.rank() - 2], b[b.rank() - 1]]].concat())
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
        let batch = a.shape()[..a.shape().len() - 2].iter().product();
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
        let d_a = at.want(0, || at.grad.matmul(&b.transpose(-1, -2)?))?;
        let d_b = at.want(1, || a.transpose(-1, -2)?.matmul(at.grad))?;
        Ok(vec![d_a, d_b])
    }
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
            Sample::new(pair(&[2, 0], &[0, 3]), |x| x[0].matmul(&x[1])),
        ]
    },
};
