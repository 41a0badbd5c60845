//! Starting a kernel.
//!
//! The driver checks nothing about arguments: one too few, or a float for an integer, is read as
//! garbage, and so is a slice of doubles for one of floats, or one of another device. So their number, their kinds,
//! and what pointers point to are compared with the parameters in the kernel's text, for every kernel in this one
//! place.

use cudarc::driver::{DeviceRepr, LaunchConfig, PushKernelArg};

use super::device::Gpu;
use super::error::{CudaError, Result, driver};
use super::module::{Kind, To};
use super::operand::on_device;
use super::program::Program;
use super::slice::{Scalar, Slice, SliceMut};
use crate::unfold::Window;

/// Threads of a block, where a kernel does not need another number.
pub const THREADS: u32 = 256;

/// Blocks of a grid, where a kernel strides over what is left: enough to fill any device.
const BLOCKS: usize = 1 << 14;

/// How many blocks of how many threads, and the bytes of dynamic shared memory of each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks.
    pub blocks: u32,
    /// Threads of each.
    pub threads: u32,
    /// Bytes of dynamic shared memory of each.
    pub shared: u32,
}

impl Grid {
    /// One thread for each of `n` things; beyond a limit, the kernel's threads take several each.
    #[must_use]
    pub fn over(n: usize) -> Self {
        let blocks = n.div_ceil(THREADS as usize).clamp(1, BLOCKS) as u32;
        Self { blocks, threads: THREADS, shared: 0 }
    }

    /// One block for each of `n` things; beyond a limit, the kernel's blocks take several each.
    #[must_use]
    pub fn blocks(n: usize) -> Self {
        Self { blocks: n.clamp(1, BLOCKS) as u32, threads: THREADS, shared: 0 }
    }

    /// The same with shared memory for so many elements a thread.
    #[must_use]
    pub fn sharing(self, bytes_per_thread: usize) -> Self {
        Self { shared: self.threads * bytes_per_thread as u32, ..self }
    }
}

/// The sizes of an iteration and the strides, in elements, of up to three arrays in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Dims {
    rank: i64,
    sizes: [i64; 6],
    strides: [[i64; 6]; 3],
}

// SAFETY: the struct is of 64-bit integers alone, laid out as in `program.cu`.
unsafe impl DeviceRepr for Dims {}

impl Dims {
    /// Sizes, and one list of strides for each array.
    ///
    /// # Errors
    /// [`CudaError::Sizes`] for more than six axes or three arrays, or for a number that a kernel does not count with.
    pub fn new(sizes: &[usize], strides: &[&[usize]]) -> Result<Self> {
        let fill = |values: &[usize]| {
            let refused = || CudaError::Sizes {
                what: "sizes or strides",
                sizes: values.to_vec(),
                expected: "at most six, each below 2^63",
            };
            let mut all = [0; 6];
            for (i, &value) in values.iter().enumerate() {
                let value = i64::try_from(value).map_err(|_| refused())?;
                *all.get_mut(i).ok_or_else(refused)? = value;
            }
            Ok::<_, CudaError>(all)
        };
        let mut dims = Self { rank: sizes.len() as i64, sizes: fill(sizes)?, ..Self::default() };
        for (i, list) in strides.iter().enumerate() {
            let refused = || CudaError::Sizes {
                what: "strides of one array more,",
                sizes: list.to_vec(),
                expected: "at most three arrays",
            };
            *dims.strides.get_mut(i).ok_or_else(refused)? = fill(list)?;
        }
        Ok(dims)
    }
}

/// A window that slides over images, in the order of `program.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Image([i64; 16]);

// SAFETY: 16 integers of 64 bits, laid out as in `program.cu`.
unsafe impl DeviceRepr for Image {}

impl Image {
    /// N images of C channels; O channels and OH × OW positions of the window.
    ///
    /// # Errors
    /// [`CudaError::Sizes`] for a number that a kernel does not count with.
    pub fn new(
        (n, c, o, groups): (usize, usize, usize, usize),
        (h, w): (usize, usize),
        window: &Window,
        (oh, ow): (usize, usize),
    ) -> Result<Self> {
        let Window { kernel, stride, padding, dilation } = *window;
        let sizes = [
            n, c, h, w, o, groups, kernel.0, kernel.1, stride.0, stride.1, padding.0, padding.1,
            dilation.0, dilation.1, oh, ow,
        ];
        if sizes.iter().any(|&size| i64::try_from(size).is_err()) {
            let (what, expected) = ("an image and its window", "numbers below 2^63");
            return Err(CudaError::Sizes { what, sizes: sizes.to_vec(), expected });
        }
        Ok(Self(sizes.map(|size| size as i64)))
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// A device address, of what only the kernel knows.
    Pointer(u64),
    /// The address of numbers of a type, and the device that it is on.
    Numbers(u64, Scalar, usize),
    /// An `int`.
    Int(i32),
    /// A `long long`.
    Long(i64),
    /// An `unsigned long long`.
    Word(u64),
    /// A `double`.
    Double(f64),
    /// Sizes and strides.
    Dims(Dims),
    /// A sliding window.
    Image(Image),
}

impl Arg {
    const fn kind(&self) -> Kind {
        match self {
            Self::Pointer(_) => Kind::Pointer(To::Anything),
            Self::Numbers(_, scalar, _) => Kind::Pointer(To::Numbers(*scalar)),
            Self::Int(_) => Kind::Int,
            Self::Long(_) => Kind::Long,
            Self::Word(_) => Kind::Word,
            Self::Double(_) => Kind::Double,
            Self::Dims(_) => Kind::Dims,
            Self::Image(_) => Kind::Image,
        }
    }
}

impl From<Slice<'_>> for Arg {
    fn from(slice: Slice<'_>) -> Self {
        Self::Numbers(slice.pointer(), slice.scalar(), slice.device())
    }
}

impl From<&SliceMut<'_>> for Arg {
    fn from(slice: &SliceMut<'_>) -> Self {
        slice.read().into()
    }
}

impl From<Option<Slice<'_>>> for Arg {
    /// Nothing is the null pointer.
    fn from(slice: Option<Slice<'_>>) -> Self {
        slice.map_or(Self::Pointer(0), Self::from)
    }
}

impl From<i32> for Arg {
    fn from(n: i32) -> Self {
        Self::Int(n)
    }
}

impl From<usize> for Arg {
    fn from(n: usize) -> Self {
        Self::Long(n as i64)
    }
}

impl From<u64> for Arg {
    fn from(n: u64) -> Self {
        Self::Word(n)
    }
}

impl From<f64> for Arg {
    fn from(x: f64) -> Self {
        Self::Double(x)
    }
}

impl From<Image> for Arg {
    fn from(image: Image) -> Self {
        Self::Image(image)
    }
}

impl From<Dims> for Arg {
    fn from(dims: Dims) -> Self {
        Self::Dims(dims)
    }
}

impl Gpu {
    /// Queues a kernel of one's own.
    ///
    /// # Safety
    /// Every pointer must stay valid, for as many elements as the kernel touches, until the kernel is
    /// over; buffers of this device that are dropped later than this call do.
    ///
    /// # Errors
    /// [`CudaError::Compile`] at a program's first use, [`CudaError::Arguments`] for arguments
    /// unlike the kernel's parameters, [`CudaError::Device`] for numbers on another device, [`CudaError::Call`] when the driver refuses.
    pub unsafe fn run(
        &self,
        program: &Program,
        name: &'static str,
        grid: Grid,
        arguments: &[Arg],
    ) -> Result<()> {
        self.launch(program, name, grid, arguments)
    }

    /// Queues a kernel. What its pointers point to must be as large as the kernel expects, which
    /// the functions that call this assert.
    ///
    /// # Errors
    /// As [`Gpu::run`].
    pub(super) fn launch(
        &self,
        program: &Program,
        name: &'static str,
        grid: Grid,
        arguments: &[Arg],
    ) -> Result<()> {
        for argument in arguments {
            if let Arg::Numbers(_, _, device) = argument {
                on_device(self, name, *device)?;
            }
        }
        let kernel = self.modules().kernel(program, name)?;
        let fits = |(parameter, argument): (&Kind, &Arg)| parameter.takes(argument.kind());
        let as_many = arguments.len() == kernel.parameters.len();
        if !(as_many && kernel.parameters.iter().zip(arguments).all(fits)) {
            let list = |kinds: Vec<Kind>| {
                kinds.iter().map(|k| format!("{k:?}")).collect::<Vec<_>>().join(", ")
            };
            return Err(CudaError::Arguments {
                kernel: format!("{name} of {}", program.name()),
                expected: list(kernel.parameters.clone()),
                got: list(arguments.iter().map(Arg::kind).collect()),
            });
        }
        let mut call = self.stream().launch_builder(&kernel.function);
        for argument in arguments {
            match argument {
                Arg::Pointer(value) | Arg::Numbers(value, ..) | Arg::Word(value) => call.arg(value),
                Arg::Int(value) => call.arg(value),
                Arg::Long(value) => call.arg(value),
                Arg::Double(value) => call.arg(value),
                Arg::Dims(value) => call.arg(value),
                Arg::Image(value) => call.arg(value),
            };
        }
        let config = LaunchConfig {
            grid_dim: (grid.blocks, 1, 1),
            block_dim: (grid.threads, 1, 1),
            shared_mem_bytes: grid.shared,
        };
        self.count_launch();
        let _open = self.capturing().enter()?;
        // SAFETY: number and kinds of the arguments are the kernel's, types of numbers included (compared above);
        // pointers come from slices that lie in their buffers (`slice::fits`), as long as the caller has asked for
        // without wrapping (`operand`); formulas of others' say nothing but numbers (`formula`). All work is on one
        // stream, so no buffer is freed before the kernels that were queued before; what a graph will launch again
        // its memory keeps.
        unsafe { call.launch(config) }.map(drop).map_err(driver(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_at_least_one_block_and_at_most_the_limit() {
        assert_eq!([0, 1, 256, 257].map(|n| Grid::over(n).blocks), [1, 1, 1, 2]);
        assert_eq!(Grid::over(usize::MAX / 2).blocks as usize, BLOCKS);
        assert_eq!(Grid::blocks(3).sharing(8).shared, 256 * 8);
    }

    #[test]
    fn dims_are_laid_out_as_the_kernel_texts_say() {
        let dims = Dims::new(&[2, 3], &[&[3, 1], &[0, 1]]).unwrap();
        assert_eq!(std::mem::size_of_val(&dims), 8 * (1 + 6 + 3 * 6));
        assert_eq!(
            (dims.rank, dims.sizes[1], dims.strides[0][0], dims.strides[1][0]),
            (2, 3, 3, 0)
        );
    }

    #[test]
    fn sizes_that_a_kernel_does_not_count_with_are_refused() {
        assert!(Dims::new(&[1; 7], &[]).is_err());
        assert!(Dims::new(&[usize::MAX], &[]).is_err());
        assert!(Dims::new(&[1], &[&[1][..]; 4]).is_err());
        let window = Window { stride: (usize::MAX, 1), ..Window::new((1, 1)) };
        assert!(Image::new((1, 1, 1, 1), (1, 1), &window, (1, 1)).is_err());
    }
}
