//! Splitting work over threads by its amount, never by its op.
//!
//! A thread costs some microseconds to wake, so work below [`GRAIN`] elements stays on the calling
//! thread. Where results are *combined* (sums), the pieces have a fixed size that does not depend
//! on the number of threads, so the same input gives the same bits on any machine.
//!
//! Each piece runs [`vectorized`]: what a kernel hands over here has been compiled for the widest
//! vectors of this machine. A closure that is more than a line says `#[inline(always)]`, or else the
//! compiler, which sees it called in three places, leaves it outside (`nm` shows which).

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

/// Calls `f(start, piece)` for consecutive pieces of `out`, in parallel if there is enough work.
/// `start` is the index of the piece's first element; pieces begin at multiples of `unit`.
pub fn pieces<T: Send>(out: &mut [T], unit: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let threads = rayon::current_num_threads();
    let run = |start, piece: &mut [T]| {
        vectorized(
            #[inline(always)]
            || f(start, piece),
        );
    };
    if threads == 1 || out.len() < 2 * GRAIN {
        if !out.is_empty() {
            run(0, out);
        }
        return;
    }
    let unit = unit.max(1);
    let units = out.len() / unit;
    let size = units.div_ceil(4 * threads).max(GRAIN.div_ceil(unit)) * unit;
    out.par_chunks_mut(size).enumerate().for_each(|(i, piece)| run(i * size, piece));
}

/// [`pieces`] of several arrays of the same length at once.
pub fn pieces_of<T: Send, const N: usize>(
    arrays: [&mut [T]; N],
    unit: usize,
    f: impl Fn(usize, [&mut [T]; N]) + Sync,
) {
    let len = arrays.first().map_or(0, |a| a.len());
    assert!(arrays.iter().all(|a| a.len() == len), "pieces_of: arrays of different lengths");
    let threads = rayon::current_num_threads();
    if len == 0 {
        return;
    }
    let run = |start, piece: [&mut [T]; N]| {
        vectorized(
            #[inline(always)]
            || f(start, piece),
        );
    };
    if threads == 1 || len < 2 * GRAIN {
        return run(0, arrays);
    }
    let unit = unit.max(1);
    let size = (len / unit).div_ceil(4 * threads).max(GRAIN.div_ceil(unit)) * unit;
    let mut rest = arrays;
    let mut cut = Vec::with_capacity(len.div_ceil(size));
    for start in (0..len).step_by(size) {
        let count = size.min(len - start);
        let mut piece: [&mut [T]; N] = std::array::from_fn(|_| Default::default());
        for (rest, piece) in rest.iter_mut().zip(&mut piece) {
            let (head, tail) = std::mem::take(rest).split_at_mut(count);
            (*piece, *rest) = (head, tail);
        }
        cut.push((start, piece));
    }
    cut.into_par_iter().for_each(|(start, piece)| run(start, piece));
}

/// Calls `f(i)` for `i` in `0..count`, in parallel if `count · cost` elements are worth it.
pub fn each(count: usize, cost: usize, f: impl Fn(usize) + Sync + Send) {
    let height = task(count, cost);
    let run = |t: usize| {
        vectorized(
            #[inline(always)]
            || (t * height..count.min((t + 1) * height)).for_each(&f),
        );
    };
    if height == count {
        (0..count.min(1)).for_each(run);
    } else {
        (0..count.div_ceil(height)).into_par_iter().for_each(run);
    }
}

/// Calls `f(i, item)` for pieces of work that own what they write, in parallel if `items · cost`
/// elements are worth it: for outputs that no row of one width divides.
pub fn items<T: Send>(items: Vec<T>, cost: usize, f: impl Fn(usize, T) + Sync + Send) {
    if task(items.len(), cost) == items.len() {
        items.into_iter().enumerate().for_each(|(i, item)| f(i, item));
    } else {
        items.into_par_iter().enumerate().for_each(|(i, item)| f(i, item));
    }
}

/// What `f` makes of each item, in their order; in parallel if `items · cost` elements are worth it.
///
/// # Example
/// ```
/// let lengths = alcyon_kernels::parallel::map(vec!["halcyon", "days"], 1, str::len);
/// assert_eq!(lengths, [7, 4]);
/// ```
pub fn map<T: Send, R: Send>(
    items: Vec<T>,
    cost: usize,
    f: impl Fn(T) -> R + Sync + Send,
) -> Vec<R> {
    if task(items.len(), cost) == items.len() {
        items.into_iter().map(f).collect()
    } else {
        items.into_par_iter().map(f).collect()
    }
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
    let height = task(out.len().div_ceil(width), cost);
    let run = |(t, rows): (usize, &mut [T])| {
        vectorized(
            #[inline(always)]
            || {
                for (i, row) in (t * height..).zip(rows.chunks_mut(width)) {
                    f(i, row);
                }
            },
        );
    };
    let tasks = out.par_chunks_mut((width * height).max(1)).enumerate();
    tasks.for_each(run);
}

/// [`rows`] for a kernel with two outputs of as many rows each.
pub fn rows2<T: Send, U: Send>(
    (first, first_width): (&mut [T], usize),
    (second, second_width): (&mut [U], usize),
    cost: usize,
    f: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
) {
    let (v, w) = (first_width.max(1), second_width.max(1));
    let height = task(first.len().div_ceil(v), cost);
    let run = |(t, (first, second)): (usize, (&mut [T], &mut [U]))| {
        vectorized(
            #[inline(always)]
            || {
                let both = first.chunks_mut(v).zip(second.chunks_mut(w));
                for (i, (a, b)) in (t * height..).zip(both) {
                    f(i, a, b);
                }
            },
        );
    };
    let first = first.par_chunks_mut((v * height).max(1));
    let second = second.par_chunks_mut((w * height).max(1));
    first.zip(second).enumerate().for_each(run);
}

/// [`rows`] for a kernel with a wide output and two numbers for each of its rows.
pub fn rows_and_two<T: Send>(
    wide: (&mut [T], usize),
    first: &mut [T],
    second: &mut [T],
    cost: usize,
    f: impl Fn(usize, &mut [T], &mut T, &mut T) + Sync + Send,
) {
    type Task<'a, T> = (usize, ((&'a mut [T], &'a mut [T]), &'a mut [T]));
    let (out, width) = (wide.0, wide.1.max(1));
    let height = task(first.len(), cost);
    let run = |(t, ((rows, first), second)): Task<'_, T>| {
        vectorized(
            #[inline(always)]
            || {
                let all = rows.chunks_mut(width).zip(first.iter_mut().zip(second));
                for (i, (row, (a, b))) in (t * height..).zip(all) {
                    f(i, row, a, b);
                }
            },
        );
    };
    let out = out.par_chunks_mut((width * height).max(1));
    let pairs = out.zip(first.par_chunks_mut(height.max(1)));
    pairs.zip(second.par_chunks_mut(height.max(1))).enumerate().for_each(run);
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
