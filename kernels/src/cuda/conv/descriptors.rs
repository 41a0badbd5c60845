//! What cuDNN wants to be told about a convolution before it computes one: arrays, window, arithmetic; and
//! what it answers when asked for algorithms.

use std::mem::MaybeUninit;

use cudarc::cudnn::result::{self, CudnnError};
use cudarc::cudnn::sys;

use super::Map;
use crate::conv::Conv2d;
use crate::cuda::slice::Scalar;
use crate::unfold::Window;

/// How many algorithms are asked for: more than there are of any map, in every arithmetic.
const MOST: usize = 32;

/// What is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arithmetic {
    stored: sys::cudnnDataType_t,
    added: sys::cudnnDataType_t,
    math: sys::cudnnMathType_t,
}

impl Arithmetic {
    /// Tensor cores for 16 bits, and for f32 where TF32 is allowed.
    pub(super) const fn new(scalar: Scalar, tf32: bool) -> Option<Self> {
        use sys::cudnnDataType_t as Type;
        use sys::cudnnMathType_t as Math;
        let single = Type::CUDNN_DATA_FLOAT;
        let (stored, added, math) = match scalar {
            Scalar::F32 if tf32 => (single, single, Math::CUDNN_DEFAULT_MATH),
            Scalar::F32 => (single, single, Math::CUDNN_FMA_MATH),
            Scalar::F64 => {
                (Type::CUDNN_DATA_DOUBLE, Type::CUDNN_DATA_DOUBLE, Math::CUDNN_DEFAULT_MATH)
            }
            Scalar::F16 => (Type::CUDNN_DATA_HALF, single, Math::CUDNN_TENSOR_OP_MATH),
            Scalar::BF16 => (Type::CUDNN_DATA_BFLOAT16, single, Math::CUDNN_TENSOR_OP_MATH),
            Scalar::I64 => return None,
        };
        Some(Self { stored, added, math })
    }

    /// Whether operands are rounded on the way to tensor cores.
    fn rounds(self) -> bool {
        use sys::cudnnMathType_t as Math;
        let double = self.stored == sys::cudnnDataType_t::CUDNN_DATA_DOUBLE;
        self.math != Math::CUDNN_FMA_MATH && !double
    }

    /// The first algorithm that gives the same bits in every run, in `limit` bytes, and computes as is asked.
    /// Winograd's and Fourier's multiply transforms, which tensor cores would have rounded once more.
    fn choose(self, candidates: &[Candidate], limit: usize) -> Option<Candidate> {
        use sys::cudnnMathType_t as Math;
        let plain = [Math::CUDNN_FMA_MATH, Math::CUDNN_DEFAULT_MATH];
        let fits = |c: &&Candidate| {
            let as_asked = match self.math {
                Math::CUDNN_FMA_MATH => plain.contains(&c.math),
                _ => !(self.rounds() && c.algorithm.transforms()),
            };
            c.works && c.is_deterministic && c.workspace <= limit && as_asked
        };
        candidates.iter().find(fits).copied()
    }
}

/// An algorithm of one of the three maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Output(sys::cudnnConvolutionFwdAlgo_t),
    InputGradient(sys::cudnnConvolutionBwdDataAlgo_t),
    WeightGradient(sys::cudnnConvolutionBwdFilterAlgo_t),
}

impl Algorithm {
    /// Whether it multiplies transforms of its operands.
    const fn transforms(self) -> bool {
        use sys::cudnnConvolutionBwdDataAlgo_t as Data;
        use sys::cudnnConvolutionBwdFilterAlgo_t as Filter;
        use sys::cudnnConvolutionFwdAlgo_t as Forward;
        match self {
            Self::Output(algorithm) => matches!(
                algorithm,
                Forward::CUDNN_CONVOLUTION_FWD_ALGO_FFT
                    | Forward::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING
                    | Forward::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD
                    | Forward::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED
            ),
            Self::InputGradient(algorithm) => !matches!(
                algorithm,
                Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0 | Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1
            ),
            Self::WeightGradient(algorithm) => !matches!(
                algorithm,
                Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0
                    | Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1
                    | Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3
            ),
        }
    }
}

/// An algorithm, as cuDNN judges it.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    algorithm: Algorithm,
    works: bool,
    is_deterministic: bool,
    workspace: usize,
    math: sys::cudnnMathType_t,
}

/// A convolution as cuDNN sees it.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) x: sys::cudnnTensorDescriptor_t,
    pub(super) y: sys::cudnnTensorDescriptor_t,
    pub(super) weight: sys::cudnnFilterDescriptor_t,
    pub(super) window: sys::cudnnConvolutionDescriptor_t,
}

impl Descriptors {
    /// `None` if the numbers of an array are too many for cuDNN's integers. No size is 0.
    pub(super) fn new(conv: &Conv2d, with: Arithmetic) -> Result<Option<Self>, CudnnError> {
        let Conv2d { batch, groups, in_channels, out_channels, input, output, window } = *conv;
        let x = [batch, in_channels, input.0, input.1];
        let y = [batch, out_channels, output.0, output.1];
        let w = [out_channels, in_channels / groups, window.kernel.0, window.kernel.1];
        let arrays = [x, y, w];
        let Window { padding, stride, dilation, .. } = window;
        let pairs = [padding.0, padding.1, stride.0, stride.1, dilation.0, dilation.1, groups];
        let most = i32::MAX as usize;
        let product = |sizes: &[usize; 4]| sizes.iter().try_fold(1_usize, |p, &n| p.checked_mul(n));
        let fits = |sizes| product(sizes).is_some_and(|product| product <= most);
        if !arrays.iter().all(fits) || pairs.iter().any(|&n| n > most) {
            return Ok(None);
        }
        let [x, y, w] = arrays.map(|sizes| sizes.map(|n| n as i32));
        let [pad_h, pad_w, down, across, dilation_h, dilation_w, groups] = pairs.map(|n| n as i32);
        let all = Self {
            x: result::create_tensor_descriptor()?,
            y: result::create_tensor_descriptor()?,
            weight: result::create_filter_descriptor()?,
            window: result::create_convolution_descriptor()?,
        };
        let planes = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        // SAFETY: the four descriptors have just been made, each of the kind that is filled in.
        unsafe {
            result::set_tensor4d_descriptor(all.x, planes, with.stored, x)?;
            result::set_tensor4d_descriptor(all.y, planes, with.stored, y)?;
            result::set_filter4d_descriptor(all.weight, with.stored, planes, w)?;
            result::set_convolution2d_descriptor(
                all.window, pad_h, pad_w, down, across, dilation_h, dilation_w, mode, with.added,
            )?;
            result::set_convolution_group_count(all.window, groups)?;
            result::set_convolution_math_type(all.window, with.math)?;
        }
        Ok(Some(all))
    }

    /// The algorithm to use, with its workspace in bytes; `None` if no algorithm will do. cuDNN's rule of thumb
    /// is asked, which is a function of the sizes: the fastest of a trial would not be the same in each run.
    pub(super) fn algorithm(
        &self,
        handle: sys::cudnnHandle_t,
        map: Map,
        with: Arithmetic,
        limit: usize,
    ) -> Result<Option<(Algorithm, usize)>, CudnnError> {
        let candidates = self.candidates(handle, map)?;
        let Some(chosen) = with.choose(&candidates, limit) else { return Ok(None) };
        if with.math != sys::cudnnMathType_t::CUDNN_FMA_MATH {
            // SAFETY: the descriptor is alive.
            unsafe { result::set_convolution_math_type(self.window, chosen.math)? };
        }
        let Self { x, y, weight, window } = *self;
        // SAFETY: handle and descriptors are alive, and of the algorithm's map.
        let workspace = unsafe {
            match chosen.algorithm {
                Algorithm::Output(algorithm) => result::get_convolution_forward_workspace_size(
                    handle, x, weight, window, y, algorithm,
                ),
                Algorithm::InputGradient(algorithm) => {
                    result::get_convolution_backward_data_workspace_size(
                        handle, weight, y, window, x, algorithm,
                    )
                }
                Algorithm::WeightGradient(algorithm) => {
                    result::get_convolution_backward_filter_workspace_size(
                        handle, x, y, window, weight, algorithm,
                    )
                }
            }
        }?;
        Ok(Some((chosen.algorithm, workspace)).filter(|_| workspace <= limit))
    }

    /// All algorithms, in the order of cuDNN's expectations.
    fn candidates(
        &self,
        handle: sys::cudnnHandle_t,
        map: Map,
    ) -> Result<Vec<Candidate>, CudnnError> {
        let Self { x, y, weight, window } = *self;
        // The five fields that matter of an answer, whose three types differ in that of the algorithm.
        macro_rules! candidate {
            ($map:ident) => {
                |answer| Candidate {
                    algorithm: Algorithm::$map(answer.algo),
                    works: answer.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS,
                    is_deterministic: answer.determinism
                        == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
                    workspace: answer.memory,
                    math: answer.mathType,
                }
            };
        }
        // SAFETY: handle and descriptors are alive; each call writes as many answers as there is room for.
        unsafe {
            match map {
                Map::Output => list(
                    |most, count, answers| {
                        result::get_convolution_forward_algorithm(
                            handle, x, weight, window, y, most, count, answers,
                        )
                    },
                    candidate!(Output),
                ),
                Map::InputGradient => list(
                    |most, count, answers| {
                        result::get_convolution_backward_data_algorithm(
                            handle, weight, y, window, x, most, count, answers,
                        )
                    },
                    candidate!(InputGradient),
                ),
                Map::WeightGradient => list(
                    |most, count, answers| {
                        result::get_convolution_backward_filter_algorithm(
                            handle, x, y, window, weight, most, count, answers,
                        )
                    },
                    candidate!(WeightGradient),
                ),
            }
        }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: they were made for this convolution, and no call is using them. What fails here is not missed.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_filter_descriptor(self.weight);
            let _ = result::destroy_convolution_descriptor(self.window);
        }
    }
}

/// What `call` writes, as candidates.
///
/// # Safety
/// `call` writes to its third argument as many answers, all their fields, as it says in its second, and no more
/// than its first.
unsafe fn list<P: Copy>(
    call: impl FnOnce(i32, *mut i32, *mut P) -> Result<(), CudnnError>,
    candidate: impl Fn(P) -> Candidate,
) -> Result<Vec<Candidate>, CudnnError> {
    let (mut count, mut answers) = (0, [const { MaybeUninit::uninit() }; MOST]);
    call(MOST as i32, &raw mut count, answers.as_mut_ptr().cast())?;
    let count = usize::try_from(count).unwrap_or(0).min(MOST);
    // SAFETY: so many answers have been written.
    Ok(answers[..count].iter().map(|answer| candidate(unsafe { answer.assume_init() })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::library;

    use sys::cudnnConvolutionFwdAlgo_t as Forward;
    use sys::cudnnMathType_t as Math;

    const LIMIT: usize = 100;

    fn candidate(algorithm: Forward, math: Math) -> Candidate {
        let algorithm = Algorithm::Output(algorithm);
        Candidate { algorithm, works: true, is_deterministic: true, workspace: LIMIT, math }
    }

    fn chosen(scalar: Scalar, tf32: bool, candidates: &[Candidate]) -> Option<usize> {
        let with = Arithmetic::new(scalar, tf32)?;
        let chosen = with.choose(candidates, LIMIT)?;
        candidates.iter().position(|c| c.algorithm == chosen.algorithm)
    }

    #[test]
    fn what_does_not_work_or_is_not_deterministic_or_too_large_is_passed_over() {
        let fine = candidate(Forward::CUDNN_CONVOLUTION_FWD_ALGO_GEMM, Math::CUDNN_FMA_MATH);
        let other = Algorithm::Output(Forward::CUDNN_CONVOLUTION_FWD_ALGO_DIRECT);
        for wrong in [
            Candidate { works: false, ..fine },
            Candidate { is_deterministic: false, ..fine },
            Candidate { workspace: LIMIT + 1, ..fine },
            Candidate { math: Math::CUDNN_TENSOR_OP_MATH, ..fine },
        ] {
            let wrong = Candidate { algorithm: other, ..wrong };
            assert_eq!(chosen(Scalar::F32, false, &[wrong, fine]), Some(1), "{wrong:?}");
            assert_eq!(chosen(Scalar::F32, false, &[wrong]), None);
        }
        assert_eq!(chosen(Scalar::F32, false, &[fine]), Some(0));
        assert_eq!(chosen(Scalar::I64, false, &[fine]), None);
    }

    #[test]
    fn transforms_are_for_those_whose_operands_no_tensor_core_rounds() {
        let winograd = Forward::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD;
        let product = Forward::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
        let both = |math| [candidate(winograd, math), candidate(product, math)];
        assert_eq!(chosen(Scalar::F32, false, &both(Math::CUDNN_FMA_MATH)), Some(0));
        assert_eq!(chosen(Scalar::F64, true, &both(Math::CUDNN_DEFAULT_MATH)), Some(0));
        assert_eq!(chosen(Scalar::F32, true, &both(Math::CUDNN_DEFAULT_MATH)), Some(1));
        for half in [Scalar::F16, Scalar::BF16] {
            assert_eq!(chosen(half, false, &both(Math::CUDNN_TENSOR_OP_MATH)), Some(1));
        }
    }

    /// NVIDIA's own library, where it is: it needs no device for this.
    #[test]
    fn cudnn_takes_the_descriptors_and_finds_the_output_as_large_as_it_is() {
        library::preload();
        // SAFETY: loads and unloads a library of NVIDIA's, nothing else.
        if !unsafe { sys::is_culib_present() } {
            eprintln!("*** SKIPPED: no cuDNN here: name its folder in ALCYON_CUDA_LIBRARIES ***");
            return;
        }
        let around = Window { padding: (1, 2), ..Window::new((3, 2)) };
        let strided = Window { stride: (2, 3), ..around };
        let dilated = Window { dilation: (2, 1), ..strided };
        for (window, groups) in [(around, 1), (strided, 2), (dilated, 3), (dilated, 6)] {
            let conv = Conv2d::new(5, groups, 6, 12, (9, 8), window).unwrap();
            for scalar in [Scalar::F32, Scalar::F64, Scalar::F16, Scalar::BF16] {
                let with = Arithmetic::new(scalar, false).unwrap();
                let all = Descriptors::new(&conv, with).unwrap().unwrap();
                let (mut n, mut c, mut h, mut w) = (0, 0, 0, 0);
                // SAFETY: the descriptors are alive; four numbers are written.
                let found = unsafe {
                    sys::cudnnGetConvolution2dForwardOutputDim(
                        all.window, all.x, all.weight, &raw mut n, &raw mut c, &raw mut h,
                        &raw mut w,
                    )
                };
                assert_eq!(found.result(), Ok(()), "{conv:?} {scalar:?}");
                let (height, width) = conv.output;
                assert_eq!([n, c, h, w].map(|n| n as usize), [5, 12, height, width]);
            }
        }
        let large = Conv2d::new(1 << 20, 1, 64, 64, (64, 64), around).unwrap();
        let with = Arithmetic::new(Scalar::F32, false).unwrap();
        assert!(
            Descriptors::new(&large, with).unwrap().is_none(),
            "more numbers than its integers"
        );
    }
}
