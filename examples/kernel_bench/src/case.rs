//! A kernel at a shape: what it has to do, and the ways there are to do it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use alcyon::kernels::Float;
use alcyon::kernels::cuda::memory::Buffer;
use alcyon::kernels::cuda::{CudaError, Gpu, Scalar, Slice, SliceMut};
use alcyon::prelude::*;

/// Where a kernel is to run, and on how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    /// Sizes, in the order of the registry's letters.
    pub(crate) shape: &'a [usize],
    /// The GPU, if it is to run there.
    pub(crate) gpu: Option<&'a Arc<Gpu>>,
}

/// What has to be done, and the rungs of the ladder: the first is the reference.
pub(crate) struct Case {
    /// Additions, multiplications, comparisons; a function such as exp is one.
    pub(crate) flops: f64,
    /// Bytes that have to move: every input read once, every output written once.
    pub(crate) bytes: f64,
    pub(crate) rungs: Vec<Rung>,
}

/// One way to compute it.
pub(crate) struct Rung {
    pub(crate) name: &'static str,
    /// Whether it runs on the GPU.
    pub(crate) on_gpu: bool,
    /// Computes once; on a GPU, queues.
    pub(crate) run: Box<dyn FnMut() -> Result<()>>,
    /// What has been computed.
    pub(crate) read: Box<dyn Fn() -> Result<Vec<f64>>>,
}

impl Case {
    /// Nothing but the work: `numbers` elements of `T` that have to move.
    pub(crate) fn new<T>(flops: usize, numbers: usize) -> Self {
        let bytes = (numbers * size_of::<T>()) as f64;
        Self { flops: flops as f64, bytes, rungs: Vec::new() }
    }

    /// A kernel of slices that writes `n` numbers.
    pub(crate) fn cpu<T: Float>(
        self,
        name: &'static str,
        n: usize,
        kernel: impl FnMut(&mut [T]) + 'static,
    ) -> Self {
        self.cpu_from(name, vec![T::of(f64::NAN); n], kernel)
    }

    /// A kernel that changes numbers in place.
    pub(crate) fn cpu_from<T: Float>(
        mut self,
        name: &'static str,
        start: Vec<T>,
        mut kernel: impl FnMut(&mut [T]) + 'static,
    ) -> Self {
        let out = Rc::new(RefCell::new(start));
        let computed = Rc::clone(&out);
        let run = move || {
            kernel(&mut out.borrow_mut());
            Ok(())
        };
        let read = move || Ok(computed.borrow().iter().map(|x| x.to_f64()).collect());
        let (run, read) = (Box::new(run), Box::new(read));
        self.rungs.push(Rung { name, on_gpu: false, run, read });
        self
    }

    /// A kernel of device memory that writes `n` numbers, if there is a device.
    pub(crate) fn cuda<T: Float>(
        self,
        at: &At<'_>,
        n: usize,
        kernel: impl FnMut(&Gpu, &SliceMut<'_>) -> Result<(), CudaError> + 'static,
    ) -> Result<Self> {
        self.cuda_from(at, &vec![T::of(f64::NAN); n], kernel)
    }

    /// The same of a kernel that has rungs of its own there.
    pub(crate) fn cuda_rung<T: Float>(
        self,
        name: &'static str,
        at: &At<'_>,
        n: usize,
        kernel: impl FnMut(&Gpu, &SliceMut<'_>) -> Result<(), CudaError> + 'static,
    ) -> Result<Self> {
        let before = self.rungs.len();
        let mut case = self.cuda::<T>(at, n, kernel)?;
        case.rungs[before..].iter_mut().for_each(|rung| rung.name = name);
        Ok(case)
    }

    /// A kernel that changes numbers of device memory in place, if there is a device.
    pub(crate) fn cuda_from<T: Float>(
        mut self,
        at: &At<'_>,
        start: &[T],
        mut kernel: impl FnMut(&Gpu, &SliceMut<'_>) -> Result<(), CudaError> + 'static,
    ) -> Result<Self> {
        let Some(gpu) = at.gpu else { return Ok(self) };
        let n = start.len();
        let out = Rc::new(RefCell::new(gpu.write(start)?));
        let (computed, device, there) = (Rc::clone(&out), Arc::clone(gpu), Arc::clone(gpu));
        let run = move || {
            let mut out = out.borrow_mut();
            Ok(kernel(&device, &SliceMut::new(&mut out, scalar::<T>(), n))?)
        };
        let read = move || {
            let mut values = vec![T::ZERO; n];
            there.read(&computed.borrow(), 0, &mut values)?;
            Ok(values.iter().map(|x| x.to_f64()).collect())
        };
        let (run, read) = (Box::new(run), Box::new(read));
        self.rungs.push(Rung { name: "cuda", on_gpu: true, run, read });
        Ok(self)
    }
}

/// Numbers on the device; none where there is no device.
pub(crate) struct There<T> {
    buffer: Option<Buffer>,
    len: usize,
    of: std::marker::PhantomData<T>,
}

impl<T: Float> There<T> {
    pub(crate) fn new(at: &At<'_>, values: &[T]) -> Result<Self> {
        let buffer = at.gpu.map(|gpu| gpu.write(values)).transpose()?;
        Ok(Self { buffer, len: values.len(), of: std::marker::PhantomData })
    }

    /// Room for `n` numbers.
    pub(crate) fn room(at: &At<'_>, n: usize) -> Result<Self> {
        Self::new(at, &vec![T::ZERO; n])
    }

    pub(crate) fn slice(&self) -> Slice<'_> {
        Slice::new(self.there(), scalar::<T>(), 0, self.len)
    }

    pub(crate) fn slice_mut(&mut self) -> SliceMut<'_> {
        let (scalar, len) = (scalar::<T>(), self.len);
        match &mut self.buffer {
            Some(buffer) => SliceMut::new(buffer, scalar, len),
            None => unreachable!("only kernels on a device ask"),
        }
    }

    fn there(&self) -> &Buffer {
        match &self.buffer {
            Some(buffer) => buffer,
            None => unreachable!("only kernels on a device ask"),
        }
    }
}

/// What the device calls a type.
pub(crate) const fn scalar<T>() -> Scalar {
    if size_of::<T>() == 4 { Scalar::F32 } else { Scalar::F64 }
}

/// Numbers in ±½ without a pattern that matters: multiples of the golden ratio.
pub(crate) fn numbers<T: Float>(n: usize, seed: usize) -> Vec<T> {
    let number = |i| ((i + 7 * seed) as f64 * 0.618_033_988_749_895).fract() - 0.5;
    (0..n).map(|i| T::of(number(i))).collect()
}
