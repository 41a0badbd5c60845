//! Splitting work over threads by its amount, never by its op.
//!
//! A thread costs some microseconds to wake, so work below [`GRAIN`] elements stays on the calling
//! thread. Where results are *combined* (sums), the pieces have a fixed size that does not depend
//! on the number of threads, so the same input gives the same bits on any machine.
//!
//! Each piece runs [`vectorized`]: what a kernel hands over here has been compiled for the widest
//! vectors of this machine. A closure that is more than a line says `#[inline(always)]`, or else the
//! compiler, which sees it called in three places, leaves it outside (`nm` shows which).
//!
//! All work meets the threads in one function that is no generic: rayon's machinery, compiled again
//! for every loop of every kernel and dtype, would be a third of the library.

use std::marker::PhantomData;

use rayon::prelude::*;

use crate::vector::vectorized;

/// The number of elements that is worth a thread of its own.
pub const GRAIN: usize = 1 << 15;

/// Makes the calling thread one of the threads that share the work, instead of one that hands work over
/// and sleeps until it is done: for the first line of `main`. Returns whether it is so from now on.
///
/// Without it everything works, but each parallel loop wakes all its threads and then the caller. The
/// number of threads stays `RAYON_NUM_THREADS`, or that of the processors. Rayon's pool is set up here,
/// so a program that sets it up itself, or has used it before, gets `false`.
///
/// # Example
/// ```
/// let here = alcyon_kernels::parallel::work_here();
/// assert!(!alcyon_kernels::parallel::work_here()); // once is enough
/// # let _ = here;
/// ```
#[allow(clippy::must_use_candidate, reason = "a program that does not ask works as well")]
pub fn work_here() -> bool {
    // A pool of one would leave every other thread of the program without a worker.
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse().ok());
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = asked.filter(|&n| n > 0).unwrap_or_else(processors);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread();
    threads > 1 && pool.build_global().is_ok()
}

/// The threads that share work.
///
/// # Example
/// ```
/// assert!(alcyon_kernels::parallel::threads() > 0);
/// ```
#[must_use]
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Calls `work(i)` for each `i` below `count`, on all threads.
fn on_threads(count: usize, work: &(dyn Fn(usize) + Sync)) {
    match count {
        0 => {}
        1 => work(0),
        _ => (0..count).into_par_iter().for_each(work),
    }
}

/// An array that several threads write, each a piece of its own.
struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    array: PhantomData<&'a mut [T]>,
}

// SAFETY: what threads get of it are pieces that do not overlap, each `&mut [T]` for one thread, which T's
// being `Send` allows; nothing is read through the array itself.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    const fn new(array: &'a mut [T]) -> Self {
        Self { start: array.as_mut_ptr(), len: array.len(), array: PhantomData }
    }

    /// Elements `i · size` to `(i + 1) · size`, fewer at the end.
    ///
    /// # Safety
    /// For one `size`, each `i` once.
    #[allow(clippy::mut_from_ref, reason = "disjoint parts, by the condition above")]
    unsafe fn piece(&self, i: usize, size: usize) -> &mut [T] {
        let start = i.saturating_mul(size).min(self.len);
        // SAFETY: start ≤ len, so it is inside the array. A later piece starts where this one ends, or (both
        // products saturate) is empty: nobody else has these elements, by the condition above.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), size.min(self.len - start)) }
    }
}

/// Calls `f(start, piece)` for consecutive pieces of `out`, in parallel if there is enough work.
/// `start` is the index of the piece's first element; pieces begin at multiples of `unit`.
pub fn pieces<T: Send>(out: &mut [T], unit: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let size = piece(out.len(), unit);
    let count = out.len().div_ceil(size);
    let out = Shared::new(out);
    on_threads(count, &|i| {
        vectorized(
            #[inline(always)]
            || {
                // SAFETY: each piece once.
                let piece = unsafe { out.piece(i, size) };
                f(i * size, piece);
            },
        );
    });
}

/// [`pieces`] of several arrays of the same length at once. (That it serves for one, too, is not made use
/// of: arrays of pieces are compiled for every loop, and most loops have one output.)
pub fn pieces_of<T: Send, const N: usize>(
    arrays: [&mut [T]; N],
    unit: usize,
    f: impl Fn(usize, [&mut [T]; N]) + Sync,
) {
    let len = arrays.first().map_or(0, |a| a.len());
    assert!(arrays.iter().all(|a| a.len() == len), "pieces_of: arrays of different lengths");
    let size = piece(len, unit);
    let arrays = arrays.map(Shared::new);
    on_threads(len.div_ceil(size), &|i| {
        vectorized(
            #[inline(always)]
            || {
                // SAFETY: each piece once.
                let pieces = std::array::from_fn(|k| unsafe { arrays[k].piece(i, size) });
                f(i * size, pieces);
            },
        );
    });
}

/// Calls `f(i, item)` for pieces of work that own what they write, in parallel if `items · cost`
/// elements are worth it: for outputs that no row of one width divides.
pub fn items<T: Send>(items: Vec<T>, cost: usize, f: impl Fn(usize, T) + Sync + Send) {
    let (count, height) = (items.len(), task(items.len(), cost));
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let size = if height == count { count.max(1) } else { 1 };
    let items = Shared::new(&mut items);
    on_threads(count.div_ceil(size), &|t| {
        // SAFETY: each piece once.
        let items = unsafe { items.piece(t, size) };
        for (i, item) in (t * size..).zip(items) {
            if let Some(item) = item.take() {
                f(i, item);
            }
        }
    });
}

/// What `f` makes of each item, in their order; in parallel if `items · cost` elements are worth it.
///
/// # Example
/// ```
/// let lengths = alcyon_kernels::parallel::map(vec!["halcyon", "days"], 1, str::len);
/// assert_eq!(lengths, [7, 4]);
/// ```
pub fn map<T: Send, R: Send>(all: Vec<T>, cost: usize, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    let mut answers: Vec<Option<R>> = all.iter().map(|_| None).collect();
    let work: Vec<(T, &mut Option<R>)> = all.into_iter().zip(&mut answers).collect();
    items(work, cost, |_, (item, answer)| *answer = Some(f(item)));
    answers.into_iter().flatten().collect()
}

/// Calls `f(i, row)` for the rows of `out` (`width` elements each), in parallel if
/// `rows · cost` elements of work are worth it. A last, shorter row is a row too.
pub fn rows<T: Send>(
    out: &mut [T],
    width: usize,
    cost: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let width = width.max(1);
    let count = out.len().div_ceil(width);
    let height = task(count, cost).max(1);
    let out = Shared::new(out);
    on_threads(count.div_ceil(height), &|t| {
        vectorized(
            #[inline(always)]
            || {
                // SAFETY: each piece once.
                let rows = unsafe { out.piece(t, width.saturating_mul(height)) };
                for (i, row) in (t * height..).zip(rows.chunks_mut(width)) {
                    f(i, row);
                }
            },
        );
    });
}

/// [`rows`] for a kernel with two outputs of as many rows each.
pub fn rows2<T: Send, U: Send>(
    (first, first_width): (&mut [T], usize),
    (second, second_width): (&mut [U], usize),
    cost: usize,
    f: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
) {
    let (v, w) = (first_width.max(1), second_width.max(1));
    let count = first.len().div_ceil(v).min(second.len().div_ceil(w));
    let height = task(count, cost).max(1);
    let (first, second) = (Shared::new(first), Shared::new(second));
    on_threads(count.div_ceil(height), &|t| {
        vectorized(
            #[inline(always)]
            || {
                // SAFETY: each piece once.
                let (a, b) = unsafe {
                    let sizes = [v, w].map(|width| width.saturating_mul(height));
                    (first.piece(t, sizes[0]), second.piece(t, sizes[1]))
                };
                for (i, (a, b)) in (t * height..).zip(a.chunks_mut(v).zip(b.chunks_mut(w))) {
                    f(i, a, b);
                }
            },
        );
    });
}

/// [`rows`] for a kernel with a wide output and two numbers for each of its rows.
pub fn rows_and_two<T: Send>(
    (wide, width): (&mut [T], usize),
    first: &mut [T],
    second: &mut [T],
    cost: usize,
    f: impl Fn(usize, &mut [T], &mut T, &mut T) + Sync + Send,
) {
    let width = width.max(1);
    let count = wide.len().div_ceil(width).min(first.len()).min(second.len());
    let height = task(count, cost).max(1);
    let (wide, first, second) = (Shared::new(wide), Shared::new(first), Shared::new(second));
    on_threads(count.div_ceil(height), &|t| {
        vectorized(
            #[inline(always)]
            || {
                // SAFETY: each piece once.
                let rows = unsafe { wide.piece(t, width.saturating_mul(height)) }.chunks_mut(width);
                // SAFETY: as above.
                let two = unsafe { first.piece(t, height).iter_mut().zip(second.piece(t, height)) };
                for (i, (row, (a, b))) in (t * height..).zip(rows.zip(two)) {
                    f(i, row, a, b);
                }
            },
        );
    });
}

/// How many of `len` elements make a piece, a multiple of `unit`: all of them if one thread is best for
/// them.
fn piece(len: usize, unit: usize) -> usize {
    let (threads, unit) = (rayon::current_num_threads(), unit.max(1));
    if threads == 1 || len < 2 * GRAIN {
        return len.max(1);
    }
    (len / unit).div_ceil(4 * threads).max(GRAIN.div_ceil(unit)) * unit
}

/// How many of `count` pieces of work of `cost` elements make a task: all of them if one thread is best
/// for them.
fn task(count: usize, cost: usize) -> usize {
    let threads = rayon::current_num_threads();
    if count < 2 || threads == 1 || count.saturating_mul(cost) < 2 * GRAIN {
        return count;
    }
    let least = (GRAIN / 4).div_ceil(cost.max(1));
    count.div_ceil(8 * threads).max(least).min(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_visited_once_whatever_the_amount_of_work() {
        for cost in [1, GRAIN] {
            let (mut a, mut b) = (vec![0; 300], vec![0; 100]);
            rows(&mut a, 3, cost, |i, row| row.iter_mut().for_each(|x| *x += i));
            rows2((&mut a, 3), (&mut b, 1), cost, |i, row, one| {
                assert_eq!(row, [i; 3]);
                one[0] = i;
            });
            assert!(b.iter().copied().eq(0..100));
        }
    }

    #[test]
    fn pieces_cover_every_element_once_and_start_at_multiples_of_the_unit() {
        for len in [0, 1, 7, 2 * GRAIN + 21, 9 * GRAIN] {
            let mut out = vec![0_u32; len];
            pieces(&mut out, 7, |start, piece| {
                assert_eq!(start % 7, 0);
                piece.iter_mut().for_each(|x| *x += 1);
            });
            assert!(out.iter().all(|&x| x == 1));
        }
    }
}
