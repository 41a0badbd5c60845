//! Convolution by cuDNN, where it can be loaded: its `cudnnConvolutionForward` and the two like it, on NCHW
//! arrays (decision 0043).
//!
//! What an algorithm costs is asked once for each map, shape, type and TF32 switch, and the answer kept, a plan:
//! that there is none, too. An algorithm whose bits could differ from run to run is never used, nor are trials,
//! whose fastest is not always the same. A shape that the library refuses when it shall be computed has no plan
//! from then on.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, OnceLock, PoisonError};

use cudarc::cudnn::result::{self, CudnnError};
use cudarc::cudnn::sys;

use super::descriptors::{Algorithm, Arithmetic, Descriptors};
use super::{Map, lay_down};
use crate::conv::Conv2d;
use crate::cuda::device::Gpu;
use crate::cuda::error::{CudaError, Result, driver};
use crate::cuda::slice::{Scalar, Slice, SliceMut};
use crate::cuda::symbols::{CUDNN, Unusable};

/// What an algorithm may ask for beside the arrays, in bytes.
const LIMIT: usize = 256 << 20;

/// What vectors of tensor cores take for granted about addresses.
const ALIGNMENT: u64 = 16;

/// The number of plans that are kept; after that all are made anew.
const PLANS: usize = 1024;

/// The versions whose functions and codes are those of the bindings: 9.0 and later, but not 10.
const VERSIONS: std::ops::Range<usize> = 90_000..100_000;

/// Map, element type, whether TF32 is allowed, sizes.
type Key = (Map, Scalar, bool, Conv2d);

/// cuDNN with its plans, opened when it is first asked for; or why there is none.
#[derive(Debug, Default)]
pub(in crate::cuda) struct Dnn(OnceLock<std::result::Result<Library, String>>);

#[derive(Debug)]
struct Library {
    version: usize,
    plans: Mutex<Plans>,
}

#[derive(Debug)]
struct Plans {
    handle: sys::cudnnHandle_t,
    /// `None` for what cuDNN refuses.
    known: HashMap<Key, Option<Plan>>,
}

// SAFETY: handles and descriptors may be used by any thread, by one at a time, which the mutex sees to.
unsafe impl Send for Plans {}

/// How a map of one shape is computed.
#[derive(Debug)]
struct Plan {
    descriptors: Descriptors,
    algorithm: Algorithm,
    workspace: usize,
}

impl Gpu {
    /// cuDNN's version, 10000·major + 100·minor + patch.
    ///
    /// # Errors
    /// Why convolutions do without it, in a line.
    pub fn cudnn(&self) -> std::result::Result<usize, &str> {
        self.library().map(|library| library.version)
    }

    /// How many convolutions cuDNN has been asked about, and how many of them it refuses.
    #[must_use]
    pub fn cudnn_plans(&self) -> (usize, usize) {
        let Ok(library) = self.library() else { return (0, 0) };
        let plans = library.plans.lock().unwrap_or_else(PoisonError::into_inner);
        (plans.known.len(), plans.known.values().filter(|plan| plan.is_none()).count())
    }

    fn library(&self) -> std::result::Result<&Library, &str> {
        self.dnn().0.get_or_init(|| Library::open(self)).as_ref().map_err(String::as_str)
    }
}

impl Library {
    fn open(gpu: &Gpu) -> std::result::Result<Self, String> {
        match CUDNN.check() {
            Ok(()) => {}
            Err(Unusable::Absent) => {
                return Err("the library libcudnn.so cannot be loaded".into());
            }
            Err(Unusable::Lacks(name)) => {
                return Err(format!("the library libcudnn.so lacks {name}"));
            }
        }
        let version = result::get_version();
        if !VERSIONS.contains(&version) {
            return Err(format!("cuDNN is of version {version}, {VERSIONS:?} are known"));
        }
        // Nothing is queued here: who waited for a capture to end would keep the thread that captures out.
        let context = gpu.stream().context();
        context.bind_to_thread().map_err(|e| driver("cuCtxSetCurrent")(e).to_string())?;
        let handle =
            result::create_handle().map_err(|error| code("cudnnCreate")(error).to_string())?;
        // SAFETY: the handle has just been made, and the stream lives as long as the device.
        unsafe { result::set_stream(handle, gpu.stream().cu_stream().cast()) }
            .map_err(|error| code("cudnnSetStream")(error).to_string())?;
        Ok(Self { version, plans: Mutex::new(Plans { handle, known: HashMap::new() }) })
    }
}

/// [`conv::forward`](super::forward) by this rung; false if it cannot be done so, and then y may have
/// been written to. No size is 0 (all functions here).
///
/// # Errors
/// As there (all functions here).
pub fn forward(
    gpu: &Gpu,
    conv: &Conv2d,
    x: Slice<'_>,
    weight: Slice<'_>,
    bias: Option<Slice<'_>>,
    y: &SliceMut<'_>,
) -> Result<bool> {
    super::check_whole(conv, (x, weight, y.read()), (bias, conv.out_channels))?;
    let call = Call { gpu, conv, map: Map::Output, arrays: [x, weight, y.read()] };
    if !call.is_planned()? {
        return Ok(false);
    }
    let beta = lay_down(gpu, (conv.batch, conv.out_channels, conv.positions()), bias, y)?;
    call.run(beta)
}

/// [`conv::backward_input`](super::backward_input) by this rung, as [`forward`].
///
/// # Errors
/// As [`forward`].
pub fn backward_input(
    gpu: &Gpu,
    conv: &Conv2d,
    g: Slice<'_>,
    weight: Slice<'_>,
    bias: Option<Slice<'_>>,
    dx: &SliceMut<'_>,
) -> Result<bool> {
    super::check_whole(conv, (dx.read(), weight, g), (bias, conv.in_channels))?;
    let call = Call { gpu, conv, map: Map::InputGradient, arrays: [dx.read(), weight, g] };
    if !call.is_planned()? {
        return Ok(false);
    }
    let beta = lay_down(gpu, (conv.batch, conv.in_channels, conv.pixels()), bias, dx)?;
    call.run(beta)
}

/// [`conv::backward_weight`](super::backward_weight) by this rung, as [`forward`].
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(
    gpu: &Gpu,
    conv: &Conv2d,
    x: Slice<'_>,
    g: Slice<'_>,
    dw: &SliceMut<'_>,
) -> Result<bool> {
    super::check_whole(conv, (x, dw.read(), g), (None, 0))?;
    let call = Call { gpu, conv, map: Map::WeightGradient, arrays: [x, dw.read(), g] };
    Ok(call.is_planned()? && call.run(0.0)?)
}

/// One map of x, W and y: the map says which of the three it writes.
struct Call<'a> {
    gpu: &'a Gpu,
    conv: &'a Conv2d,
    map: Map,
    arrays: [Slice<'a>; 3],
}

impl Call<'_> {
    fn key(&self) -> Key {
        (self.map, self.arrays[0].scalar(), self.gpu.allows_tf32(), *self.conv)
    }

    /// Whether there is a plan; makes one if nobody has yet.
    fn is_planned(&self) -> Result<bool> {
        for array in self.arrays {
            if !array.on(self.gpu, "convolution")?.is_multiple_of(ALIGNMENT) {
                return Ok(false);
            }
        }
        let Ok(library) = self.gpu.library() else { return Ok(false) };
        let _open = self.gpu.bind()?;
        let mut plans = library.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, handle) = (self.key(), plans.handle);
        if let Some(plan) = plans.known.get(&key) {
            return Ok(plan.is_some());
        }
        if plans.known.len() >= PLANS {
            plans.known.clear();
        }
        let plan = Plan::find(handle, &key).or_else(refused("cudnnGetConvolutionAlgorithm"))?;
        Ok(plans.known.entry(key).insert_entry(plan).get().is_some())
    }

    /// What the map writes = its value + β of what was there; false if the library refuses after all.
    fn run(&self, beta: f64) -> Result<bool> {
        let Ok(library) = self.gpu.library() else { return Ok(false) };
        let _open = self.gpu.bind()?;
        let mut plans = library.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, handle) = (self.key(), plans.handle);
        let Some(Some(plan)) = plans.known.get(&key) else { return Ok(false) };
        let workspace = self.gpu.memory().allocate(plan.workspace)?;
        let pointers = self.arrays.map(|array| array.pointer());
        let done = plan.run(handle, key.1, beta, pointers, workspace.pointer());
        let done = done.map(Some).or_else(refused("cudnnConvolution"));
        // That the device is lost the driver alone says.
        let done = done.map_err(|error| match self.gpu.wait() {
            Err(lost @ CudaError::Lost { .. }) => lost,
            _ => error,
        });
        let done = done?.is_some();
        if !done {
            plans.known.insert(key, None);
        }
        Ok(done)
    }
}

impl Plan {
    fn find(
        handle: sys::cudnnHandle_t,
        &(map, scalar, tf32, ref conv): &Key,
    ) -> std::result::Result<Option<Self>, CudnnError> {
        let Some(with) = Arithmetic::new(scalar, tf32) else { return Ok(None) };
        let Some(descriptors) = Descriptors::new(conv, with)? else { return Ok(None) };
        let found = descriptors.algorithm(handle, map, with, LIMIT)?;
        Ok(found.map(|(algorithm, workspace)| Self { descriptors, algorithm, workspace }))
    }

    fn run(
        &self,
        handle: sys::cudnnHandle_t,
        scalar: Scalar,
        beta: f64,
        [x, weight, y]: [u64; 3],
        workspace: u64,
    ) -> std::result::Result<(), CudnnError> {
        // The two factors are of the type that is added in.
        let (single, double) = ([1.0_f32, beta as f32], [1.0_f64, beta]);
        let [one, beta]: [*const c_void; 2] = match scalar {
            Scalar::F64 => [(&raw const double[0]).cast(), (&raw const double[1]).cast()],
            _ => [(&raw const single[0]).cast(), (&raw const single[1]).cast()],
        };
        let Descriptors { x: of_x, y: of_y, weight: of_w, window } = self.descriptors;
        let [x, weight, y] = [x, weight, y].map(|pointer| pointer as *mut c_void);
        let (room, bytes) = (workspace as *mut c_void, self.workspace);
        // SAFETY: the arrays have the sizes and the type of the descriptors (asserted by the callers) and lie on
        // the device until the stream has passed this; so does the workspace, whose memory is handed out
        // again to later work alone. The algorithm is one of the map's; the two factors outlive the call.
        unsafe {
            match self.algorithm {
                Algorithm::Output(algorithm) => result::convolution_forward(
                    handle, one, of_x, x, of_w, weight, window, algorithm, room, bytes, beta, of_y,
                    y,
                ),
                Algorithm::InputGradient(algorithm) => result::convolution_backward_data(
                    handle, one, of_w, weight, of_y, y, window, algorithm, room, bytes, beta, of_x,
                    x,
                ),
                Algorithm::WeightGradient(algorithm) => result::convolution_backward_filter(
                    handle, one, of_x, x, of_y, y, window, algorithm, room, bytes, beta, of_w,
                    weight,
                ),
            }
        }
    }
}

/// What is not supported is nothing; other codes are errors.
fn refused<T>(call: &'static str) -> impl Fn(CudnnError) -> Result<Option<T>> {
    move |error| match error.0 as u32 {
        3000..4000 => Ok(None),
        _ => Err(code(call)(error)),
    }
}

fn code(call: &'static str) -> impl Fn(CudnnError) -> CudaError {
    move |error| CudaError::Call { call, code: format!("{:?}", error.0) }
}
