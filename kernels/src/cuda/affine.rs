//! The affine map y = x Wᵀ + b in one pass, by cuBLASLt: its product adds the bias to what it writes.
//!
//! cuBLASLt wants to be asked how it would compute a product of certain sizes, which takes longer than a
//! small one; so what it answers is kept, a plan for each shape. Where the library cannot be loaded, or
//! knows no way, or the operands do not lie as it likes, the bias is laid down and cuBLAS adds to it.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use cudarc::cublas::sys::cublasOperation_t;
use cudarc::cublaslt::{result, sys};

use sys::cublasLtMatmulDescAttributes_t as Attribute;

use super::device::Gpu;
use super::error::{CudaError, Result};
use super::gemm::{Matrices, gemm};
use super::operand::{length, scalar};
use super::slice::{Scalar, Slice, SliceMut};
use super::strided;
use super::symbols::CUBLASLT;

/// What a plan may ask for beside the operands, in bytes: NVIDIA's advice for Hopper.
static WORKSPACE: usize = 32 << 20;

/// What the answers of cuBLASLt take for granted about addresses.
const ALIGNMENT: u64 = 256;

/// The number of plans that are kept; after that all are made anew.
const PLANS: usize = 1024;

/// Element type, whether TF32 is allowed, and rows, size, width.
type Key = (Scalar, bool, [usize; 3]);

/// cuBLASLt with its plans, or nothing where the library cannot be loaded.
#[derive(Debug)]
pub(super) struct Light(Option<Mutex<Plans>>);

#[derive(Debug)]
struct Plans {
    handle: sys::cublasLtHandle_t,
    /// `None` for a shape that cuBLASLt knows no way for.
    known: HashMap<Key, Option<Plan>>,
}

// SAFETY: handles and descriptors may be used by any thread, by one at a time, which the mutex sees to.
unsafe impl Send for Plans {}

/// How a product of one shape is computed.
#[derive(Debug)]
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
}

impl Light {
    pub(super) fn new() -> Result<Self> {
        if CUBLASLT.check().is_err() {
            return Ok(Self(None));
        }
        let handle = result::create_handle().map_err(code("cublasLtCreate"))?;
        Ok(Self(Some(Mutex::new(Plans { handle, known: HashMap::new() }))))
    }
}

impl Gpu {
    /// How many shapes of [`affine`] cuBLASLt has been asked about; `None` where it cannot be loaded.
    #[must_use]
    pub fn plans(&self) -> Option<usize> {
        let plans = self.light().0.as_ref()?;
        Some(plans.lock().unwrap_or_else(PoisonError::into_inner).known.len())
    }
}

/// y = x Wᵀ + b.
///
/// # Shape
/// x: \[rows, size\] · weight: \[width, size\] · bias: \[width\] · y: \[rows, width\]
///
/// # Errors
/// [`CudaError::Call`] when a library refuses, [`CudaError::OutOfMemory`] for its workspace.
pub fn affine(
    gpu: &Gpu,
    [rows, size, width]: [usize; 3],
    x: Slice<'_>,
    weight: Slice<'_>,
    bias: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    let all =
        [("x", x, [rows, size]), ("weight", weight, [width, size]), ("bias", bias, [1, width])];
    for (name, operand, sizes) in all {
        length("affine", name, operand.len(), &sizes)?;
        scalar("affine", name, operand.scalar(), y.scalar())?;
    }
    length("affine", "y", y.len(), &[rows, width])?;
    if y.is_empty() {
        return Ok(());
    }
    let mut pointers = [0; 4];
    for (pointer, operand) in pointers.iter_mut().zip([x, weight, bias, y.read()]) {
        *pointer = operand.on(gpu, "affine")?;
    }
    let aligned = pointers.iter().all(|pointer| pointer.is_multiple_of(ALIGNMENT));
    let key = (y.scalar(), gpu.allows_tf32(), [rows, size, width]);
    if aligned && size > 0 && planned(gpu, key, pointers)? {
        return Ok(());
    }
    strided::copy(gpu, &[rows, width], &[0, 1], bias, y)?;
    let (x, weight) = (Matrices::new(x, rows, size), Matrices::new(weight, width, size));
    gemm(gpu, 1, 1.0, x, weight.t(), 1.0, y)
}

/// Computes by plan; false if there is none.
fn planned(gpu: &Gpu, key: Key, pointers: [u64; 4]) -> Result<bool> {
    let Some(plans) = &gpu.light().0 else { return Ok(false) };
    let _open = gpu.bind()?;
    let mut plans = plans.lock().unwrap_or_else(PoisonError::into_inner);
    let handle = plans.handle;
    if plans.known.len() >= PLANS && !plans.known.contains_key(&key) {
        plans.known.clear();
    }
    let plan = match plans.known.entry(key) {
        std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
        std::collections::hash_map::Entry::Vacant(new) => new.insert(Plan::find(handle, key)?),
    };
    match plan {
        Some(plan) => plan.run(gpu, handle, key.0, pointers).map(|()| true),
        None => Ok(false),
    }
}

impl Plan {
    /// Asks cuBLASLt. Read column by column, as it does, y is \[width, rows\] = W x, with W transposed.
    fn find(
        handle: sys::cublasLtHandle_t,
        (scalar, tf32, [rows, size, width]): Key,
    ) -> Result<Option<Self>> {
        let Some((kind, compute, scale)) = types(scalar, tf32) else { return Ok(None) };
        let product =
            result::create_matmul_desc(compute, scale).map_err(code("cublasLtMatmulDescCreate"))?;
        let layout = |down: usize, across: usize| {
            result::create_matrix_layout(kind, down as u64, across as u64, down as i64)
                .map_err(code("cublasLtMatrixLayoutCreate"))
        };
        let mut plan = Self {
            product,
            weight: layout(size, width)?,
            x: layout(size, rows)?,
            y: layout(width, rows)?,
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            workspace: 0,
        };
        let transposed = cublasOperation_t::CUBLAS_OP_T;
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &transposed)?;
        let with_bias = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &with_bias)?;
        let preference =
            result::create_matmul_pref().map_err(code("cublasLtMatmulPreferenceCreate"))?;
        let most =
            sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        // SAFETY: all descriptors have just been made and are destroyed after; the attribute is read, as
        // many bytes as a size has, before the call returns.
        let found = unsafe {
            let bytes = (&raw const WORKSPACE).cast();
            let found =
                result::set_matmul_pref_attribute(preference, most, bytes, size_of::<usize>())
                    .and_then(|()| {
                        let Self { product, weight, x, y, .. } = plan;
                        result::get_matmul_algo_heuristic(
                            handle, product, weight, x, y, y, preference,
                        )
                    });
            let _ = result::destroy_matmul_pref(preference); // Of no use any more, either way.
            found
        };
        match found {
            Ok(found) => {
                (plan.algorithm, plan.workspace) = (found.algo, found.workspaceSize);
                Ok(Some(plan))
            }
            Err(error) if error.0 == sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED => Ok(None),
            Err(error) => Err(code("cublasLtMatmulAlgoGetHeuristic")(error)),
        }
    }

    fn set<T>(&self, attribute: Attribute, value: &T) -> Result<()> {
        let value = std::ptr::from_ref(value).cast::<c_void>();
        // SAFETY: the descriptor is alive; the value is copied, as long as its type, before the call returns.
        unsafe { result::set_matmul_desc_attribute(self.product, attribute, value, size_of::<T>()) }
            .map_err(code("cublasLtMatmulDescSetAttribute"))
    }

    fn run(
        &self,
        gpu: &Gpu,
        handle: sys::cublasLtHandle_t,
        scalar: Scalar,
        [x, weight, bias, y]: [u64; 4],
    ) -> Result<()> {
        self.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        let workspace = gpu.memory().allocate(self.workspace)?;
        let (single, double) = ([1.0_f32, 0.0], [1.0_f64, 0.0]);
        let [one, zero]: [*const c_void; 2] = match scalar {
            Scalar::F64 => [(&raw const double[0]).cast(), (&raw const double[1]).cast()],
            _ => [(&raw const single[0]).cast(), (&raw const single[1]).cast()],
        };
        // SAFETY: the operands have the sizes and types of the plan's layouts (asserted in `affine`) and lie
        // on the device until the stream has passed this; so does the workspace, whose memory is
        // handed out again to later work alone. The two factors outlive the call.
        unsafe {
            result::matmul(
                handle,
                self.product,
                one,
                zero,
                weight as *const c_void,
                self.weight,
                x as *const c_void,
                self.x,
                y as *const c_void,
                self.y,
                y as *mut c_void,
                self.y,
                &raw const self.algorithm,
                workspace.pointer() as *mut c_void,
                self.workspace,
                gpu.stream().cu_stream().cast(),
            )
        }
        .map_err(code("cublasLtMatmul"))
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: they were made for this plan, and no call is using them. What fails here is not missed.
        unsafe {
            let _ = result::destroy_matmul_desc(self.product);
            for layout in [self.weight, self.x, self.y] {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

/// The library's names of an element type, of what is added up in, and of the factors' type.
const fn types(
    scalar: Scalar,
    tf32: bool,
) -> Option<(sys::cudaDataType, sys::cublasComputeType_t, sys::cudaDataType)> {
    use sys::cublasComputeType_t as Compute;
    use sys::cudaDataType as Type;
    let single = Compute::CUBLAS_COMPUTE_32F;
    match scalar {
        Scalar::F32 if tf32 => {
            Some((Type::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F_FAST_TF32, Type::CUDA_R_32F))
        }
        Scalar::F32 => Some((Type::CUDA_R_32F, single, Type::CUDA_R_32F)),
        Scalar::F64 => Some((Type::CUDA_R_64F, Compute::CUBLAS_COMPUTE_64F, Type::CUDA_R_64F)),
        Scalar::F16 => Some((Type::CUDA_R_16F, single, Type::CUDA_R_32F)),
        Scalar::BF16 => Some((Type::CUDA_R_16BF, single, Type::CUDA_R_32F)),
        Scalar::I64 => None,
    }
}

fn code(call: &'static str) -> impl Fn(result::CublasError) -> CudaError {
    move |error| CudaError::Call { call, code: format!("{:?}", error.0) }
}
