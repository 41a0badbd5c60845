//! Buffers whose memory is reused: allocation without page faults and without zeroing.
//!
//! A fresh 64 MB allocation costs more in page faults than the addition that fills it. So the memory of
//! a buffer that is dropped goes to a store, one for all threads and all types (`store.rs`), and the next
//! buffer of that size, or a little less, takes it from there. Its contents are then what the last owner
//! left: *unspecified but initialised*, which is why no `unsafe` is needed. A kernel that takes a
//! [`Buffer::unspecified`] output must write every element of it.
//!
//! The store takes back only what it gave out. A vector that somebody else has allocated, and that a
//! buffer took over, goes back to the system.
//!
//! Where there is no memory: [`Buffer::try_unspecified`] returns [`OutOfMemory`]. A kernel cannot return
//! what its workspaces meet, so [`Buffer::unspecified`] unwinds, and [`or_out_of_memory`], through which
//! the engine calls every kernel, returns that as an error.

mod machine;
mod store;

use std::any::Any;
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};

use store::{Line, POOL};

/// A number that can live in a [`Buffer`].
pub trait Pooled: bytemuck::Pod + Default + Send + Sync {}

impl Pooled for f32 {}
impl Pooled for f64 {}
impl Pooled for i64 {}
impl Pooled for half::f16 {}
impl Pooled for half::bf16 {}

/// Buffers of fewer bytes are left to the allocator, which is faster than a list for them.
const SMALLEST: usize = 1024;

/// Of fewer bytes than these the system is not asked whether it has them.
const PROBED: usize = 1 << 16;

/// A fixed-length, heap-allocated run of numbers that returns to the pool when dropped.
///
/// # Example
/// ```
/// use alcyon_kernels::pool::Buffer;
/// let mut b = Buffer::<f32>::unspecified(3);
/// b.copy_from_slice(&[1.0, 2.0, 3.0]);
/// assert_eq!(b.iter().sum::<f32>(), 6.0);
/// ```
pub struct Buffer<T: Pooled> {
    memory: Memory<T>,
    len: usize,
}

/// Whose memory it is.
enum Memory<T> {
    /// The pool's.
    Pooled(Box<[Line]>),
    /// The allocator's: a small buffer, or a vector that was taken over.
    Vector(Vec<T>),
}

impl<T: Pooled> Buffer<T> {
    /// A buffer whose contents are unspecified (initialised, but to anything). In debug builds it
    /// is filled with a poison value — NaN for floats — so that an element a kernel forgot shows.
    ///
    /// # Panics
    /// When there is no memory for it: as an error inside of [`or_out_of_memory`].
    #[must_use]
    pub fn unspecified(len: usize) -> Self {
        Self::try_unspecified(len).unwrap_or_else(|error| unwind(error))
    }

    /// The same, where the size is a user's.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the system refuses the memory, or all buffers together would be larger than
    /// the machine's memory (or its control group's).
    pub fn try_unspecified(len: usize) -> Result<Self, OutOfMemory> {
        let bytes = len.saturating_mul(size_of::<T>());
        if bytes < SMALLEST {
            return Ok(vec![T::default(); len].into());
        }
        let memory = Memory::Pooled(POOL.take(bytes)?);
        let mut buffer = Self { memory, len };
        if cfg!(debug_assertions) {
            bytemuck::cast_slice_mut::<T, u8>(&mut buffer).fill(0xff);
        }
        Ok(buffer)
    }

    /// A buffer of zeros.
    ///
    /// # Panics
    /// As [`Buffer::unspecified`].
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::unspecified(len);
        buffer.fill(T::default());
        buffer
    }
}

impl<T: Pooled> From<Vec<T>> for Buffer<T> {
    /// Takes the vector over without copying. Its memory never joins the pool.
    fn from(memory: Vec<T>) -> Self {
        POOL.lend(memory.capacity() * size_of::<T>());
        Self { len: memory.len(), memory: Memory::Vector(memory) }
    }
}

impl<T: Pooled> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Pooled(lines) => &bytemuck::cast_slice(lines)[..self.len],
            Memory::Vector(vector) => vector,
        }
    }
}

impl<T: Pooled> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            Memory::Pooled(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            Memory::Vector(vector) => vector,
        }
    }
}

impl<T: Pooled> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::unspecified(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Pooled> Drop for Buffer<T> {
    fn drop(&mut self) {
        match mem::replace(&mut self.memory, Memory::Vector(Vec::new())) {
            Memory::Pooled(lines) => POOL.give(lines),
            Memory::Vector(vector) => POOL.end_of(vector.capacity() * size_of::<T>()),
        }
    }
}

impl<T: Pooled + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buffer").field(&&**self).finish()
    }
}

/// There is no memory for a buffer of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: no {bytes} bytes")]
pub struct OutOfMemory {
    /// What was asked for.
    pub bytes: usize,
}

/// Refuses memory that is not a buffer's (a vector that a user gets, what another library allocates), if it is
/// more than the machine has beside the buffers in use, or if the system does not give it: so much is taken
/// and given back at once.
///
/// # Errors
/// [`OutOfMemory`].
///
/// # Example
/// ```
/// use alcyon_kernels::pool::{OutOfMemory, expect_room};
/// assert_eq!(expect_room(1 << 50), Err(OutOfMemory { bytes: 1 << 50 }));
/// ```
pub fn expect_room(bytes: usize) -> Result<(), OutOfMemory> {
    let is_given = || std::hint::black_box(&mut Vec::<u8>::new()).try_reserve_exact(bytes).is_ok();
    with_room(bytes, || (bytes < PROBED || is_given()).then_some(()))
}

/// [`expect_room`] for what a library allocates inside of a kernel.
///
/// # Panics
/// As [`Buffer::unspecified`].
pub(crate) fn workspace(bytes: usize) {
    expect_room(bytes).unwrap_or_else(|error| unwind(error));
}

/// What `allocate` makes of so many bytes that are not a buffer's. Where the system refuses them, what waits for
/// reuse is given back and `allocate` called once more.
///
/// # Errors
/// [`OutOfMemory`] if that is more than the machine has beside the buffers in use, or refused twice.
///
/// # Example
/// ```
/// use alcyon_kernels::pool::{OutOfMemory, with_room};
/// let bytes = with_room(3, || bytemuck::allocation::try_zeroed_vec::<u8>(3).ok());
/// assert_eq!(bytes, Ok(vec![0; 3]));
/// assert_eq!(with_room(3, || None::<()>), Err(OutOfMemory { bytes: 3 }));
/// ```
pub fn with_room<R>(
    bytes: usize,
    mut allocate: impl FnMut() -> Option<R>,
) -> Result<R, OutOfMemory> {
    POOL.expect_room(bytes)?;
    let again = |allocate: &mut dyn FnMut() -> Option<R>| {
        clear();
        allocate()
    };
    allocate().or_else(|| again(&mut allocate)).ok_or(OutOfMemory { bytes })
}

/// Calls in [`or_out_of_memory`] that have not returned.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// What `kernel` returns, or that it found no memory for a workspace.
///
/// # Errors
/// [`OutOfMemory`]. Any other panic goes on.
///
/// # Example
/// ```
/// use alcyon_kernels::pool::{Buffer, OutOfMemory, or_out_of_memory};
/// let kernel = |numbers| or_out_of_memory(|| Buffer::<f32>::zeros(numbers).len());
/// assert_eq!(kernel(1000), Ok(1000));
/// assert_eq!(kernel(1 << 50), Err(OutOfMemory { bytes: 1 << 52 }));
/// ```
pub fn or_out_of_memory<R>(kernel: impl FnOnce() -> R) -> Result<R, OutOfMemory> {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let result = panic::catch_unwind(AssertUnwindSafe(kernel));
    CALLS.fetch_sub(1, Ordering::Relaxed);
    result.or_else(|cause: Box<dyn Any + Send>| match cause.downcast() {
        Ok(error) => Err(*error),
        Err(other) => panic::resume_unwind(other),
    })
}

/// Leaves a kernel: in silence if there may be somebody to tell.
#[allow(clippy::panic, reason = "a kernel returns no error, and nobody has asked to be told")]
fn unwind(error: OutOfMemory) -> ! {
    if CALLS.load(Ordering::Relaxed) > 0 {
        panic::resume_unwind(Box::new(error))
    }
    panic::panic_any(error.to_string())
}

/// The bytes in buffers that are in use, on all threads and of all types. Memory of the pool counts as
/// it was cut, a vector that was taken over with its capacity.
#[must_use]
pub fn live_bytes() -> usize {
    POOL.live()
}

/// The bytes that wait for reuse. At most one and a half times the recent peak of [`live_bytes`], which
/// ages: a large model that is dropped gives its memory back while smaller ones work.
#[must_use]
pub fn idle_bytes() -> usize {
    POOL.idle()
}

/// The most that [`live_bytes`] has been since the program began or [`reset_peak`] was called.
#[must_use]
pub fn peak_bytes() -> usize {
    POOL.peak()
}

/// Starts the measurement of [`peak_bytes`] anew, from what is in use now.
pub fn reset_peak() {
    POOL.reset_peak();
}

/// Gives all memory that waits for reuse back to the system.
pub fn clear() {
    POOL.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_has_its_own_memory() {
        let a = Buffer::from(vec![1_i64, 2, 3]);
        let mut b = a.clone();
        b[0] = 7;
        assert_eq!((a[0], b[0]), (1, 7));
    }

    #[test]
    fn a_buffer_has_its_length_in_every_type() {
        fn check<T: Pooled>(len: usize) {
            let (new, taken) = (Buffer::<T>::zeros(len), Buffer::from(vec![T::default(); len]));
            assert_eq!((new.len(), taken.len()), (len, len));
            let is_zero = |byte: &u8| *byte == 0;
            assert!(bytemuck::cast_slice::<T, u8>(&new).iter().all(is_zero));
        }
        for len in [0, 1, 127, 128, 129, 255, 256, 511, 512, 513, 5000] {
            check::<f32>(len);
            check::<f64>(len);
            check::<i64>(len);
            check::<half::f16>(len);
            check::<half::bf16>(len);
        }
    }

    #[test]
    fn more_than_the_machine_has_is_refused_and_leaves_all_as_it_was() {
        for len in [1_usize << 45, 1 << 58, usize::MAX] {
            let bytes = len.saturating_mul(8);
            assert_eq!(Buffer::<f64>::try_unspecified(len).err(), Some(OutOfMemory { bytes }));
        }
        assert!(expect_room(usize::MAX).is_err() && expect_room(1).is_ok());
    }

    #[test]
    fn a_workspace_without_memory_ends_the_kernel_on_whatever_thread_and_nothing_else() {
        let inside = || rayon::join(|| Buffer::<i64>::zeros(1 << 58).len(), || 1);
        assert_eq!(or_out_of_memory(inside), Err(OutOfMemory { bytes: 1 << 61 }));
        let other = panic::catch_unwind(|| or_out_of_memory(|| panic::panic_any("a bug")));
        assert_eq!(other.err().and_then(|cause| cause.downcast().ok()), Some(Box::new("a bug")));
    }

    #[test]
    fn debug_builds_poison_what_comes_out_of_the_pool() {
        if cfg!(debug_assertions) {
            drop(Buffer::<f64>::zeros(4321));
            assert!(Buffer::<f64>::unspecified(4321).iter().all(|x| x.is_nan()));
        }
    }
}
