//! Whether a library of NVIDIA's is one: that it loads, and has every function that is called here.
//!
//! `cudarc` looks a function up when it is first called, and panics where there is none. So all are asked for before.

use cudarc::get_lib_name_candidates;
use libloading::Library;

/// A library, and the functions that this crate calls, by `cudarc` or by itself.
#[derive(Debug)]
pub(super) struct Functions {
    stem: &'static str,
    /// What it is called in messages.
    pub(super) file: &'static str,
    names: &'static [&'static str],
}

/// What keeps a library from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Nothing of its name loads.
    Absent,
    /// What loads lacks a function.
    Lacks(&'static str),
}

pub(super) static DRIVER: Functions = Functions {
    stem: "cuda",
    file: "libcuda.so",
    names: &[
        "cuInit",
        "cuDriverGetVersion",
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDeviceTotalMem_v2",
        "cuDeviceGetAttribute",
        "cuDevicePrimaryCtxRetain",
        "cuDevicePrimaryCtxRelease_v2",
        "cuCtxSetCurrent",
        "cuCtxGetCurrent",
        "cuCtxSynchronize",
        "cuStreamCreate",
        "cuStreamDestroy_v2",
        "cuStreamSynchronize",
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphUpload",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
        "cuGraphDestroy",
        "cuEventCreate",
        "cuEventDestroy_v2",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuEventElapsedTime_v2",
        "cuGetErrorName",
        "cuGetErrorString",
        "cuMemGetInfo_v2",
        "cuMemAlloc_v2",
        "cuMemFree_v2",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuMemcpyDtoDAsync_v2",
        "cuMemsetD8Async",
        "cuModuleLoadData",
        "cuModuleGetFunction",
        "cuModuleUnload",
        "cuLaunchKernel",
    ],
};

pub(super) static NVRTC: Functions = Functions {
    stem: "nvrtc",
    file: "libnvrtc.so",
    names: &[
        "nvrtcVersion",
        "nvrtcGetNumSupportedArchs",
        "nvrtcGetSupportedArchs",
        "nvrtcCreateProgram",
        "nvrtcDestroyProgram",
        "nvrtcCompileProgram",
        "nvrtcGetCUBINSize",
        "nvrtcGetCUBIN",
        "nvrtcGetPTXSize",
        "nvrtcGetPTX",
        "nvrtcGetProgramLogSize",
        "nvrtcGetProgramLog",
    ],
};

pub(super) static CUBLAS: Functions = Functions {
    stem: "cublas",
    file: "libcublas.so",
    names: &[
        "cublasCreate_v2",
        "cublasDestroy_v2",
        "cublasSetStream_v2",
        "cublasSetMathMode",
        "cublasSetWorkspace_v2",
        "cublasGemmStridedBatchedEx_64",
    ],
};

pub(super) static CUBLASLT: Functions = Functions {
    stem: "cublasLt",
    file: "libcublasLt.so",
    names: &[
        "cublasLtCreate",
        "cublasLtDestroy",
        "cublasLtMatmulDescCreate",
        "cublasLtMatmulDescDestroy",
        "cublasLtMatmulDescSetAttribute",
        "cublasLtMatrixLayoutCreate",
        "cublasLtMatrixLayoutDestroy",
        "cublasLtMatmulPreferenceCreate",
        "cublasLtMatmulPreferenceSetAttribute",
        "cublasLtMatmulPreferenceDestroy",
        "cublasLtMatmulAlgoGetHeuristic",
        "cublasLtMatmul",
    ],
};

pub(super) static CUDNN: Functions = Functions {
    stem: "cudnn",
    file: "libcudnn.so",
    names: &[
        "cudnnGetVersion",
        "cudnnCreate",
        "cudnnDestroy",
        "cudnnSetStream",
        "cudnnCreateTensorDescriptor",
        "cudnnDestroyTensorDescriptor",
        "cudnnSetTensor4dDescriptor",
        "cudnnCreateFilterDescriptor",
        "cudnnDestroyFilterDescriptor",
        "cudnnSetFilter4dDescriptor",
        "cudnnCreateConvolutionDescriptor",
        "cudnnDestroyConvolutionDescriptor",
        "cudnnSetConvolution2dDescriptor",
        "cudnnSetConvolutionGroupCount",
        "cudnnSetConvolutionMathType",
        "cudnnGetConvolutionForwardAlgorithm_v7",
        "cudnnGetConvolutionBackwardDataAlgorithm_v7",
        "cudnnGetConvolutionBackwardFilterAlgorithm_v7",
        "cudnnGetConvolutionForwardWorkspaceSize",
        "cudnnGetConvolutionBackwardDataWorkspaceSize",
        "cudnnGetConvolutionBackwardFilterWorkspaceSize",
        "cudnnConvolutionForward",
        "cudnnConvolutionBackwardData",
        "cudnnConvolutionBackwardFilter",
    ],
};

impl Functions {
    /// The library that a call of `cudarc`'s would load.
    pub(super) fn library(&self) -> Option<Library> {
        let open = |name: String| {
            // SAFETY: loads a library of NVIDIA's by its name; its initialisers have no preconditions.
            unsafe { Library::new(name) }.ok()
        };
        get_lib_name_candidates(self.stem).into_iter().find_map(open)
    }

    /// Asks for the library and all of its functions.
    pub(super) fn check(&self) -> Result<(), Unusable> {
        let library = self.library().ok_or(Unusable::Absent)?;
        let lacks = |name: &&str| {
            // SAFETY: the address is looked up and not used.
            unsafe { library.get::<*const ()>(name.as_bytes()) }.is_err()
        };
        self.names.iter().copied().find(lacks).map_or(Ok(()), |name| Err(Unusable::Lacks(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stand-ins for NVIDIA's libraries have what is called here, or the tests over them would fail.
    #[test]
    fn every_function_that_the_stand_ins_have_is_asked_for() {
        for (library, text) in [
            (&DRIVER, include_str!("../../emulator/cpp/driver.cpp")),
            (&NVRTC, include_str!("../../emulator/cpp/nvrtc.cpp")),
            (&CUBLAS, include_str!("../../emulator/cpp/cublas.cpp")),
            (&CUBLASLT, include_str!("../../emulator/cpp/cublaslt.cpp")),
            (&CUDNN, include_str!("../../emulator/cpp/cudnn.cpp")),
        ] {
            let defined = |line: &str| {
                let name = line.strip_prefix("API ")?.split('(').next()?;
                (name != "cuGetExportTable").then(|| name.to_owned())
            };
            let missing: Vec<String> = (text.lines().filter_map(defined))
                .filter(|name| !library.names.contains(&name.as_str()))
                .collect();
            assert!(missing.is_empty(), "{}: {missing:?}", library.file);
        }
    }
}
