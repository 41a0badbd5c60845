//! Splitting work over threads by its amount, never by its op.
//!
//! A thread costs some microseconds to wake, so work below [`GRAIN`] elements stays on the calling
//! thread. Where results are *combined* (sums), the pieces have a fixed size that does not depend
//! on the number of threads, so the same input gives the same bits on any machine.

use rayon::prelude::*;

/// The number of elements that is worth a thread of its own.
pub const GRAIN: usize = 1 << 15;

/// Calls `f(start, piece)` for consecutive pieces of `out`, in parallel if there is enough work.
/// `start` is the index of the piece's first element; pieces begin at multiples of `unit`.
pub fn pieces<T: Send>(out: &mut [T], unit: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let threads = rayon::current_num_threads();
    if threads == 1 || out.len() < 2 * GRAIN {
        if !out.is_empty() {
            f(0, out);
        }
        return;
    }
    let unit = unit.max(1);
    let units = out.len() / unit;
    let size = units.div_ceil(4 * threads).max(GRAIN.div_ceil(unit)) * unit;
    out.par_chunks_mut(size).enumerate().for_each(|(i, piece)| f(i * size, piece));
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
    if threads == 1 || len < 2 * GRAIN {
        return f(0, arrays);
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
    cut.into_par_iter().for_each(|(start, piece)| f(start, piece));
}

/// Calls `f(i)` for `i` in `0..count`, in parallel if `count · cost` elements are worth it.
pub fn each(count: usize, cost: usize, f: impl Fn(usize) + Sync + Send) {
    if alone(count, cost) {
        (0..count).for_each(f);
    } else {
        (0..count).into_par_iter().for_each(f);
    }
}

/// Calls `f(i, item)` for each item, in parallel if `items · cost` elements are worth it.
pub fn items<T: Send>(items: Vec<T>, cost: usize, f: impl Fn(usize, T) + Sync + Send) {
    if alone(items.len(), cost) {
        items.into_iter().enumerate().for_each(|(i, item)| f(i, item));
    } else {
        items.into_par_iter().enumerate().for_each(|(i, item)| f(i, item));
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
    if alone(out.len().div_ceil(width), cost) {
        out.chunks_mut(width).enumerate().for_each(|(i, row)| f(i, row));
    } else {
        let least = (GRAIN / 4).div_ceil(cost.max(1));
        out.par_chunks_mut(width).with_min_len(least).enumerate().for_each(|(i, row)| f(i, row));
    }
}

/// [`rows`] for a kernel with two outputs of as many rows each.
pub fn rows2<T: Send, U: Send>(
    (first, first_width): (&mut [T], usize),
    (second, second_width): (&mut [U], usize),
    cost: usize,
    f: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
) {
    let (v, w) = (first_width.max(1), second_width.max(1));
    if alone(first.len().div_ceil(v), cost) {
        let both = first.chunks_mut(v).zip(second.chunks_mut(w));
        both.enumerate().for_each(|(i, (a, b))| f(i, a, b));
    } else {
        let least = (GRAIN / 4).div_ceil(cost.max(1));
        let both = first.par_chunks_mut(v).zip(second.par_chunks_mut(w)).with_min_len(least);
        both.enumerate().for_each(|(i, (a, b))| f(i, a, b));
    }
}

/// [`rows`] for a kernel with a wide output and two numbers for each of its rows.
pub fn rows_and_two<T: Send>(
    wide: (&mut [T], usize),
    first: &mut [T],
    second: &mut [T],
    cost: usize,
    f: impl Fn(usize, &mut [T], &mut T, &mut T) + Sync + Send,
) {
    let (out, width) = (wide.0, wide.1.max(1));
    if alone(first.len(), cost) {
        let pairs = first.iter_mut().zip(second);
        let all = out.chunks_mut(width).zip(pairs).enumerate();
        all.for_each(|(i, (row, (a, b)))| f(i, row, a, b));
    } else {
        let least = (GRAIN / 4).div_ceil(cost.max(1));
        let pairs = first.par_iter_mut().zip(second);
        let all = out.par_chunks_mut(width).zip(pairs).with_min_len(least).enumerate();
        all.for_each(|(i, (row, (a, b)))| f(i, row, a, b));
    }
}

/// Whether `count` pieces of work of `cost` elements are best done on the calling thread.
fn alone(count: usize, cost: usize) -> bool {
    count < 2 || rayon::current_num_threads() == 1 || count.saturating_mul(cost) < 2 * GRAIN
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
