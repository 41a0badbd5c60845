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

/// Calls `f(i)` for `i` in `0..count`, in parallel if `count · cost` elements are worth it.
pub fn each(count: usize, cost: usize, f: impl Fn(usize) + Sync + Send) {
    if count < 2 || rayon::current_num_threads() == 1 || count.saturating_mul(cost) < 2 * GRAIN {
        (0..count).for_each(f);
    } else {
        (0..count).into_par_iter().for_each(f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
