//! What can go wrong on a CUDA device.

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

use super::NoDevice;
use super::slice::Scalar;

/// `Result` with [`CudaError`].
pub(super) type Result<T> = std::result::Result<T, CudaError>;

/// A failure on a CUDA device, or on the way to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The device cannot be used at all.
    #[error(transparent)]
    Absent(#[from] NoDevice),
    /// No memory is left, with nothing in the cache that could be given back.
    #[error(
        "out of device memory: {wanted} bytes wanted, {live} in use by this program, {free} of {total} free"
    )]
    OutOfMemory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes that this program holds in buffers.
        live: usize,
        /// Bytes that the driver has left.
        free: usize,
        /// Bytes of the device.
        total: usize,
    },
    /// A call of a library of NVIDIA's failed.
    #[error("{call}: {code}")]
    Call {
        /// What was being done.
        call: &'static str,
        /// The library's own name for the reason.
        code: String,
    },
    /// A kernel has run into a fault, or the hardware has failed: the device is lost to this process. Every
    /// later call fails so, too; what was saved is safe.
    #[error("the device is lost ({call}: {code}): start again from what was saved")]
    Lost {
        /// What was being done when it showed, which may be long after it happened.
        call: &'static str,
        /// The driver's own name for the reason.
        code: String,
    },
    /// While a graph is captured its work is only written down: nothing can be read or waited for.
    #[error("{call}: not while a graph is captured, when nothing is computed yet")]
    Captured {
        /// What was to be done.
        call: &'static str,
    },
    /// A kernel text that the device compiler refuses: a bug of ours, or a formula's.
    #[error("the kernel text `{program}` does not compile:\n{log}")]
    Compile {
        /// The program.
        program: String,
        /// What the compiler said.
        log: String,
    },
    /// Arguments unlike the parameters in the kernel's text: a bug of ours.
    #[error("{kernel}: expected arguments ({expected}), got ({got})")]
    Arguments {
        /// The kernel, with its program.
        kernel: String,
        /// The kinds of its parameters.
        expected: String,
        /// The kinds that came.
        got: String,
    },
    /// An operand of another length than the others ask for.
    #[error("cuda {kernel}: expected {operand} of {expected:?} elements, got {got}")]
    Length {
        /// The kernel.
        kernel: &'static str,
        /// The operand.
        operand: &'static str,
        /// The sizes whose product its length should be.
        expected: Vec<usize>,
        /// The length that came.
        got: usize,
    },
    /// An operand of another type than the others ask for.
    #[error("cuda {kernel}: expected {operand} of {}, got {}", .expected.c_name(), .got.c_name())]
    Scalar {
        /// The kernel.
        kernel: &'static str,
        /// The operand.
        operand: &'static str,
        /// The type it should have.
        expected: Scalar,
        /// The type that came.
        got: Scalar,
    },
    /// An operand in the memory of another device.
    #[error(
        "{kernel} on CUDA device {expected}: an operand is on CUDA device {got}; bring it there first"
    )]
    Device {
        /// The kernel.
        kernel: &'static str,
        /// The device that it was to run on.
        expected: usize,
        /// The operand's device.
        got: usize,
    },
    /// A strided view that leaves its operand.
    #[error("cuda {kernel}: {shape:?} with strides {strides:?} leaves {operand} of {got} elements")]
    View {
        /// The kernel.
        kernel: &'static str,
        /// The operand.
        operand: &'static str,
        /// The sizes.
        shape: Vec<usize>,
        /// From an entry to the next, for each size.
        strides: Vec<usize>,
        /// The operand's length.
        got: usize,
    },
    /// A copy from or to bytes that a buffer does not have.
    #[error("{call}: {count} bytes from byte {from} on leave a buffer of {have}")]
    Range {
        /// What was to be done.
        call: &'static str,
        /// The first byte.
        from: usize,
        /// How many.
        count: usize,
        /// Bytes of the buffer.
        have: usize,
    },
    /// Sizes that do not go together, or that no kernel counts with.
    #[error("{what} {sizes:?}: expected {expected}")]
    Sizes {
        /// What they are of.
        what: &'static str,
        /// The sizes.
        sizes: Vec<usize>,
        /// What they should be.
        expected: &'static str,
    },
    /// A formula that is more than an expression of the numbers it is given.
    #[error("the formula `{formula}` of `{name}`: expected {expected} at byte {at}")]
    Formula {
        /// What it computes.
        name: &'static str,
        /// Its text.
        formula: &'static str,
        /// Where it stops to be an expression.
        at: usize,
        /// What could stand there.
        expected: &'static str,
    },
    /// An index outside its range, found on the device.
    #[error("{op}: index {index} at position {at} is out of range 0..{bound}")]
    Index {
        /// Who used it.
        op: &'static str,
        /// The offending index.
        index: i64,
        /// Where it stands.
        at: usize,
        /// Indices must be below this.
        bound: usize,
    },
    /// A step that was queued and not taken, found on the device: all that it would have changed is as before.
    #[error(
        "a step of {rule} was not taken: its gradients are not finite, or their squares cannot be added; clip them \
         (`Gradients::clip_norm`) or scale the loss"
    )]
    NotTaken {
        /// Whose step.
        rule: &'static str,
    },
}

/// Turns a driver's error code into the error of a named call.
pub(super) fn driver(call: &'static str) -> impl Fn(DriverError) -> CudaError {
    move |error| {
        let code = format!("{:?}", error.0);
        if is_final(error.0) {
            CudaError::Lost { call, code }
        } else {
            CudaError::Call { call, code }
        }
    }
}

/// Whether the process has to end before the device can be used again, by the driver's documentation.
const fn is_final(code: CUresult) -> bool {
    matches!(
        code,
        CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
    )
}
