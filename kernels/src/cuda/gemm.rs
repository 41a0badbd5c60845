//! The matrix product C = α A B + β C, batched, by cuBLAS.
//!
//! cuBLAS counts columns first, we rows. A row-major matrix, read column-major, is its transpose;
//! and (A B)ᵀ = Bᵀ Aᵀ. So the operands change places and nothing is moved.
//!
//! 16-bit operands are multiplied and added up in f32, and the sum is rounded once. f32 is computed in
//! f32, so that CPU and GPU agree, unless TF32 has been switched on ([`Gpu::allow_tf32`]): then the
//! operands are rounded to 10 bits of mantissa first, which tensor cores take.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublas::{result, sys};
use cudarc::driver::CudaStream;

use super::device::Gpu;
use super::error::{CudaError, Result};
use super::memory::Buffer;
use super::operand::{length, scalar as same};
use super::slice::{Scalar, Slice, SliceMut};
use crate::sizes::extent;

/// cuBLAS, bound to a stream. A handle must not be used by two threads at once.
#[derive(Debug)]
pub(super) struct Blas(Mutex<Handle>);

#[derive(Debug)]
struct Handle {
    handle: sys::cublasHandle_t,
    /// Ours, once a graph has been captured; cuBLAS's own until then.
    workspace: Option<Buffer>,
}

/// Bytes of a workspace of ours: NVIDIA's advice for Hopper.
const WORKSPACE: usize = 32 << 20;

// SAFETY: a handle may be used by any thread, by one at a time, which the mutex sees to.
unsafe impl Send for Handle {}

impl Blas {
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let handle = result::create_handle().map_err(code("cublasCreate"))?;
        // SAFETY: the handle has just been made, and the stream lives as long as the device.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }
            .map_err(code("cublasSetStream"))?;
        // Partial sums of 16-bit products are f32, too, however a product is split.
        let mode = sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the handle has just been made.
        unsafe { sys::cublasSetMathMode(handle, mode) }
            .result()
            .map_err(code("cublasSetMathMode"))?;
        Ok(Self(Mutex::new(Handle { handle, workspace: None })))
    }

    /// Gives cuBLAS memory of ours to work in: what it allocates by itself cannot be captured.
    pub(super) fn prepare_for_capture(&self, gpu: &Gpu) -> Result<()> {
        let mut blas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if blas.workspace.is_none() {
            let workspace = gpu.memory().allocate(WORKSPACE)?;
            let at = workspace.pointer() as *mut c_void;
            // SAFETY: the memory is kept as long as the handle, and all work is on one stream.
            unsafe { sys::cublasSetWorkspace_v2(blas.handle, at, WORKSPACE) }
                .result()
                .map_err(code("cublasSetWorkspace"))?;
            blas.workspace = Some(workspace);
        }
        Ok(())
    }
}

/// A batch of matrices in device memory. Strides are in elements; one of `row` and `column` is 1,
/// unless its axis has fewer than two entries.
#[derive(Debug, Clone, Copy)]
pub struct Matrices<'a> {
    /// The elements, from the first matrix's first on.
    pub data: Slice<'a>,
    /// Rows and columns.
    pub size: (usize, usize),
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub column: usize,
    /// From a matrix to the next; 0 repeats one.
    pub batch: usize,
}

impl<'a> Matrices<'a> {
    /// Row-major matrices one after another.
    #[must_use]
    pub const fn new(data: Slice<'a>, rows: usize, columns: usize) -> Self {
        // One that saturates leaves its slice, which the product asks.
        let batch = rows.saturating_mul(columns);
        Self { data, size: (rows, columns), row: columns, column: 1, batch }
    }

    /// The transposes. Nothing moves.
    #[must_use]
    pub const fn t(self) -> Self {
        let Self { data, size: (m, n), row, column, batch } = self;
        Self { data, size: (n, m), row: column, column: row, batch }
    }

    /// Whether [`gemm()`] takes such strides.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.form().is_some()
    }

    /// Whether cuBLAS sees the transpose of what it wants, and the leading dimension.
    fn form(&self) -> Option<(bool, usize)> {
        let (rows, columns) = self.size;
        if (self.column == 1 || columns < 2) && (self.row >= columns || rows < 2) {
            // With one row, any leading dimension would do that is long enough.
            return Some((false, if rows < 2 { columns } else { self.row }.max(1)));
        }
        if (self.row == 1 || rows < 2) && (self.column >= rows || columns < 2) {
            return Some((true, if columns < 2 { rows } else { self.column }.max(1)));
        }
        None
    }

    /// Whether all that is read lies in the slice.
    fn lies_inside(&self, batch: usize) -> bool {
        let (sizes, strides) =
            ([batch, self.size.0, self.size.1], [self.batch, self.row, self.column]);
        extent(&sizes, &strides).is_some_and(|end| end <= self.data.len())
    }
}

/// Where row-major results of a batch go.
#[derive(Debug, Clone, Copy)]
pub struct Results<'a> {
    /// The elements they are among.
    pub data: &'a SliceMut<'a>,
    /// The first matrix's first element.
    pub start: usize,
    /// From a matrix to the next.
    pub batch: usize,
}

/// C = α A B + β C for `batch` pairs of matrices; C is row-major, one after another. With β = 0, C is
/// not read. Of 16-bit operands C may be f32: then nothing is rounded.
///
/// # Errors
/// [`CudaError::Call`] when cuBLAS refuses.
pub fn gemm(
    gpu: &Gpu,
    batch: usize,
    alpha: f64,
    a: Matrices<'_>,
    b: Matrices<'_>,
    beta: f64,
    c: &SliceMut<'_>,
) -> Result<()> {
    length("gemm", "c", c.len(), &[batch, a.size.0, b.size.1])?;
    let size = a.size.0 * b.size.1;
    gemm_into(gpu, batch, alpha, a, b, beta, Results { data: c, start: 0, batch: size })
}

/// The same, the results somewhere among others that are left as they are.
///
/// # Errors
/// As [`gemm()`].
pub fn gemm_into(
    gpu: &Gpu,
    batch: usize,
    alpha: f64,
    a: Matrices<'_>,
    b: Matrices<'_>,
    beta: f64,
    c: Results<'_>,
) -> Result<()> {
    let ((m, k), (_, n)) = (a.size, b.size);
    check(batch, &a, &b, &c)?;
    if batch == 0 || m == 0 || n == 0 {
        return Ok(());
    }
    let (Some((a_flipped, lda)), Some((b_flipped, ldb))) = (a.form(), b.form()) else {
        return Err(CudaError::Call {
            call: "gemm",
            code: "strides that cuBLAS cannot take".into(),
        });
    };
    let _open = gpu.bind()?;
    let blas = gpu.blas().0.lock().unwrap_or_else(PoisonError::into_inner);
    let flip = |flipped| {
        if flipped {
            sys::cublasOperation_t::CUBLAS_OP_T
        } else {
            sys::cublasOperation_t::CUBLAS_OP_N
        }
    };
    let [m, n, k, lda, ldb, count] = [m, n, k, lda, ldb, batch].map(|size| size as i64);
    let (step_a, step_b) = (a.batch as i64, b.batch as i64);
    let (step_c, ldc) = (c.batch as i64, n);
    let (scalar, result) = (a.data.scalar(), c.data.scalar());
    let [pa, pb] = [a.data.on(gpu, "gemm")?, b.data.on(gpu, "gemm")?];
    let pc = c.data.on(gpu, "gemm")? + (c.start * result.bytes()) as u64;
    let unknown =
        || code("gemm")(result::CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED));
    let (kind, kind_c) = (kind(scalar).ok_or_else(unknown)?, kind(result).ok_or_else(unknown)?);
    let compute = compute(scalar, gpu.allows_tf32());
    // The two factors are of the type that is added in.
    let single = [alpha as f32, beta as f32];
    let double = [alpha, beta];
    let [alpha, beta]: [*const c_void; 2] = match scalar {
        Scalar::F64 => [(&raw const double[0]).cast(), (&raw const double[1]).cast()],
        _ => [(&raw const single[0]).cast(), (&raw const single[1]).cast()],
    };
    // SAFETY: the handle is valid and ours while locked; the operands are of the types that are named, their
    // extents lie in their slices, as C's does (`check`, without wrapping, so the sizes are no larger than an i64
    // too); α and β, of the type that `compute` implies, outlive the call.
    unsafe {
        sys::cublasGemmStridedBatchedEx_64(
            blas.handle,
            flip(b_flipped),
            flip(a_flipped),
            n,
            m,
            k,
            alpha,
            pb as *const c_void,
            kind,
            ldb,
            step_b,
            pa as *const c_void,
            kind,
            lda,
            step_a,
            beta,
            pc as *mut c_void,
            kind_c,
            ldc,
            step_c,
            count,
            compute,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    }
    .result()
    .map_err(code("cublasGemmStridedBatchedEx"))
}

/// Asks for sizes and types that go together, and that all of it lies in its slices.
fn check(batch: usize, a: &Matrices<'_>, b: &Matrices<'_>, c: &Results<'_>) -> Result<()> {
    let ((m, k), (inner, n)) = (a.size, b.size);
    if k != inner {
        let (sizes, expected) = (vec![m, k, inner, n], "inner sizes that are the same");
        return Err(CudaError::Sizes { what: "gemm of", sizes, expected });
    }
    let outside = |operand, data: usize, sizes: [usize; 3], strides: [usize; 3]| {
        let (shape, strides) = (sizes.to_vec(), strides.to_vec());
        Err(CudaError::View { kernel: "gemm", operand, shape, strides, got: data })
    };
    for (name, x) in [("a", a), ("b", b)] {
        if !x.lies_inside(batch) {
            let sizes = [batch, x.size.0, x.size.1];
            return outside(name, x.data.len(), sizes, [x.batch, x.row, x.column]);
        }
    }
    let end = extent(&[batch, m, n], &[c.batch, n, 1]);
    let inside = match end {
        Some(0) => true,
        end => end.and_then(|end| end.checked_add(c.start)).is_some_and(|end| end <= c.data.len()),
    };
    // Its rows are n apart; with `inside`, m n does not wrap.
    if !inside || batch > 1 && c.batch < m * n {
        return outside("c", c.data.len(), [batch, m, n], [c.batch, n, 1]);
    }
    let (scalar, result) = (a.data.scalar(), c.data.scalar());
    same("gemm", "b", b.data.scalar(), scalar)?;
    if result != scalar.computed_in() {
        same("gemm", "c", result, scalar)?;
    }
    Ok(())
}

/// cuBLAS's name of a type that it multiplies.
const fn kind(scalar: Scalar) -> Option<sys::cudaDataType> {
    match scalar {
        Scalar::F32 => Some(sys::cudaDataType::CUDA_R_32F),
        Scalar::F64 => Some(sys::cudaDataType::CUDA_R_64F),
        Scalar::F16 => Some(sys::cudaDataType::CUDA_R_16F),
        Scalar::BF16 => Some(sys::cudaDataType::CUDA_R_16BF),
        Scalar::I64 => None,
    }
}

/// What products are added up in.
const fn compute(scalar: Scalar, tf32: bool) -> sys::cublasComputeType_t {
    match scalar {
        Scalar::F64 => sys::cublasComputeType_t::CUBLAS_COMPUTE_64F,
        Scalar::F32 if tf32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    }
}

fn code(call: &'static str) -> impl Fn(result::CublasError) -> CudaError {
    move |error| CudaError::Call { call, code: format!("{:?}", error.0) }
}
