//! Buffers whose memory is reused: allocation without page faults and without zeroing.
//!
//! A fresh 64 MB allocation costs more in page faults than the addition that fills it. So a buffer
//! that is dropped goes to a free list of its size class on the dropping thread, and the next buffer
//! of that size, or a little less, takes it from there. Its contents are then what the last owner left:
//! *unspecified but initialised*, which is why no `unsafe` is needed. A kernel that takes an
//! [`Buffer::unspecified`] output must write every element of it.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number that can live in a [`Buffer`].
pub trait Pooled: bytemuck::Pod + Default + Send + Sync {
    /// Runs `f` on this thread's free lists for the type, if they still exist.
    #[doc(hidden)]
    fn with_shelves<R>(f: impl FnOnce(&mut Shelves<Self>) -> R) -> Option<R>;
}

/// The free lists of one thread and one type, by size class.
#[doc(hidden)]
#[derive(Debug)]
pub struct Shelves<T> {
    shelves: Vec<Vec<Vec<T>>>,
    bytes: usize,
}

impl<T> Shelves<T> {
    const fn new() -> Self {
        Self { shelves: Vec::new(), bytes: 0 }
    }
}

macro_rules! pooled {
    ($($t:ty),*) => {$(
        impl Pooled for $t {
            fn with_shelves<R>(f: impl FnOnce(&mut Shelves<Self>) -> R) -> Option<R> {
                thread_local! {
                    static SHELVES: RefCell<Shelves<$t>> = const { RefCell::new(Shelves::new()) };
                }
                SHELVES.try_with(|s| f(&mut s.borrow_mut())).ok()
            }
        }
    )*};
}
pooled!(f32, f64, i64, half::f16, half::bf16);

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Smaller buffers are left to the allocator, which is faster than a list for them.
const SMALLEST: usize = 256;

/// What one thread keeps at most, in bytes, for each element type.
const MOST: usize = 4 << 30;

/// The classes in which a buffer is looked for, its own and the next: memory that lies idle costs more
/// than memory that is used in part. (With five a GPT's step took an eighth more, with one a CNN's a
/// quarter more.)
const NEXT: usize = 3;

/// The size classes are 4, 5, 6 or 7 times a power of two: at most a quarter is wasted.
/// Returns the class and its capacity, the least one ≥ `len`.
fn class_of(len: usize) -> (usize, usize) {
    let power = (usize::BITS - 1 - len.leading_zeros()) as usize; // 2^power ≤ len
    let quarter = 1usize << (power - 2);
    let steps = len.div_ceil(quarter); // 4..=8
    if steps == 8 {
        (4 * (power + 1), 1 << (power + 1))
    } else {
        (4 * power + steps - 4, steps * quarter)
    }
}

/// A fixed-length, heap-allocated run of numbers that returns to the pool when dropped.
///
/// # Example
/// ```
/// use alcyon_kernels::pool::Buffer;
/// let mut b = Buffer::<f32>::unspecified(3);
/// b.copy_from_slice(&[1.0, 2.0, 3.0]);
/// assert_eq!(b.iter().sum::<f32>(), 6.0);
/// ```
#[derive(Debug)]
pub struct Buffer<T: Pooled> {
    /// Always as long as its size class, so that taking it from the pool needs no resize.
    memory: Vec<T>,
    len: usize,
}

impl<T: Pooled> Buffer<T> {
    /// A buffer whose contents are unspecified (initialised, but to anything). In debug builds it
    /// is filled with a poison value — NaN for floats — so that an element a kernel forgot shows.
    #[must_use]
    pub fn unspecified(len: usize) -> Self {
        if len < SMALLEST {
            return Self::of(vec![T::default(); len], len);
        }
        let (class, capacity) = class_of(len);
        let reused = T::with_shelves(|s| {
            let fitting = s.shelves.iter_mut().skip(class).take(NEXT);
            let memory = fitting.filter_map(Vec::pop).next()?;
            s.bytes -= memory.len() * size_of::<T>();
            Some(memory)
        });
        let memory = reused.flatten().unwrap_or_else(|| vec![T::default(); capacity]);
        let mut buffer = Self::of(memory, len);
        if cfg!(debug_assertions) {
            bytemuck::cast_slice_mut::<T, u8>(&mut buffer).fill(0xff);
        }
        buffer
    }

    /// Memory that is in use from now on.
    fn of(memory: Vec<T>, len: usize) -> Self {
        let bytes = memory.len() * size_of::<T>();
        let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if live > PEAK.load(Ordering::Relaxed) {
            PEAK.fetch_max(live, Ordering::Relaxed);
        }
        Self { memory, len }
    }

    /// A buffer of zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::unspecified(len);
        buffer.fill(T::default());
        buffer
    }
}

impl<T: Pooled> From<Vec<T>> for Buffer<T> {
    /// Takes the vector over without copying. Its memory joins the pool only if it happens to be
    /// of a class's size.
    fn from(memory: Vec<T>) -> Self {
        let len = memory.len();
        Self::of(memory, len)
    }
}

impl<T: Pooled> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.memory[..self.len]
    }
}

impl<T: Pooled> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[..self.len]
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
        let memory = std::mem::take(&mut self.memory);
        LIVE.fetch_sub(memory.len() * size_of::<T>(), Ordering::Relaxed);
        if memory.len() < SMALLEST {
            return;
        }
        let (class, capacity) = class_of(memory.len());
        if memory.len() != capacity {
            return;
        }
        T::with_shelves(|s| {
            let bytes = capacity * size_of::<T>();
            if s.bytes + bytes > MOST {
                return;
            }
            if s.shelves.len() <= class {
                s.shelves.resize_with(class + 1, Vec::new);
            }
            s.shelves[class].push(memory);
            s.bytes += bytes;
        });
    }
}

/// The bytes in buffers that are in use, on all threads.
#[must_use]
pub fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// The most that [`live_bytes`] has been since the program began or [`reset_peak`] was called.
#[must_use]
pub fn peak_bytes() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// Starts the measurement of [`peak_bytes`] anew, from what is in use now.
pub fn reset_peak() {
    PEAK.store(live_bytes(), Ordering::Relaxed);
}

/// Gives the free memory of this thread back to the system.
pub fn clear() {
    fn empty<T: Pooled>() {
        T::with_shelves(|s| *s = Shelves::new());
    }
    empty::<f32>();
    empty::<f64>();
    empty::<i64>();
    empty::<half::f16>();
    empty::<half::bf16>();
}

/// The bytes that wait for reuse on this thread.
#[must_use]
pub fn idle_bytes() -> usize {
    fn of<T: Pooled>() -> usize {
        T::with_shelves(|s| s.bytes).unwrap_or(0)
    }
    of::<f32>() + of::<f64>() + of::<i64>() + of::<half::f16>() + of::<half::bf16>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_holds_its_length_and_wastes_at_most_a_quarter() {
        for len in SMALLEST..5000 {
            let (class, capacity) = class_of(len);
            assert!(capacity >= len && capacity <= len + len / 4 + 1, "{len} → {capacity}");
            assert_eq!(class_of(capacity), (class, capacity), "a class contains its own capacity");
        }
    }

    #[test]
    fn dropped_memory_is_taken_again() {
        clear();
        let first = Buffer::<f32>::zeros(1000);
        let address = first.as_ptr();
        drop(first);
        assert!(idle_bytes() >= 4000);
        assert_eq!(
            Buffer::<f32>::unspecified(1001).as_ptr(),
            address,
            "1000 and 1001 share a class"
        );
        assert_eq!(Buffer::<f32>::unspecified(700).as_ptr(), address, "better in part than idle");
        assert_ne!(Buffer::<f32>::unspecified(600).as_ptr(), address, "too much of it would idle");
        clear();
        assert_eq!(idle_bytes(), 0);
    }

    #[test]
    fn the_peak_counts_what_was_in_use_together() {
        // Other tests run beside this one: with buffers far larger than theirs.
        const LARGE: usize = 1 << 24;
        reset_peak();
        let before = live_bytes();
        drop(Buffer::<f64>::unspecified(LARGE));
        let two = [Buffer::<f64>::unspecified(LARGE), Buffer::<f64>::unspecified(LARGE)];
        let (bytes, slack) = (2 * LARGE * size_of::<f64>(), LARGE);
        assert!(live_bytes().abs_diff(before + bytes) < slack);
        drop(two);
        assert!(live_bytes().abs_diff(before) < slack);
        assert!(peak_bytes().abs_diff(before + bytes) < slack, "two at once, not three");
    }

    #[test]
    fn a_clone_has_its_own_memory() {
        let a = Buffer::from(vec![1_i64, 2, 3]);
        let mut b = a.clone();
        b[0] = 7;
        assert_eq!((a[0], b[0]), (1, 7));
    }
}
