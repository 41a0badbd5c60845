//! The passes of a step over its moment, by runs of rows.
//!
//! Where the factor of the first axis is a diagonal, what a row becomes depends on that row alone. A long tensor is
//! then worked on in runs of rows that stay in the cache from the draw to the sums, instead of in a dozen passes
//! over all of main memory. Otherwise there is one run: all rows.

use std::ops::Range;

use engine::Result;
use kernels::pool::Buffer;
use kernels::reduce::sum_of;
use kernels::{elementwise, parallel};

use super::NOISE;
use super::triangle::{Change, Side};
use crate::algebra::axes::{copy, scratch};
use crate::algebra::pattern::Pattern;

/// The numbers of a run, …
const NUMBERS: usize = 1 << 13;

/// … its least rows, …
const ROWS: usize = 64;

/// … and the runs whose sums are one sum.
const RUNS: usize = 16;

/// m̂ = scale · m, seen along `dims`.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) m: &'a [f64],
    pub(super) scale: f64,
    pub(super) dims: &'a [usize],
}

impl Moment<'_> {
    /// The changes of a fit of all sides to m̂ and the normal draw z.
    pub(super) fn fit(&self, sides: &[Side<'_>], z: &[f64]) -> Result<Vec<Change>> {
        let sum = sum_of(self.m, self.m, |m, _| (m * self.scale).abs());
        let noise = NOISE * (sum / self.m.len().max(1) as f64);
        let runs = self.runs(sides);
        // One run, or nothing to whiten: fitted to zero, the factors would grow without bound.
        if noise == 0.0 {
            return Ok(Vec::new());
        }
        if let [all] = &*runs {
            let [a, b] = self.turned(sides, all, noise, z)?;
            let dims = self.dims_of(all);
            return Ok(sides.iter().map(|side| side.change([&a, &b], &dims)).collect());
        }
        // As many groups of runs as have sums that are no larger than the moment.
        let kept: usize = sides.iter().skip(1).map(|side| side.pattern.numbers()).sum();
        let groups = (runs.len() / RUNS).min(self.m.len() / (2 * kept).max(1)).max(1);
        let groups = runs.chunks(runs.len().div_ceil(groups)).collect::<Vec<_>>();
        let cost = self.m.len() / groups.len() * self.dims.iter().skip(1).sum::<usize>();
        let sums = parallel::map(groups, cost, |runs| self.moments(sides, runs, noise, z));
        let sums = sums.into_iter().collect::<Result<Vec<_>>>()?;
        let change = |(at, side): (usize, &Side<'_>)| {
            let both = [0, 1].map(|which| {
                let parts = sums.iter().map(|group| &*group[at][which]);
                if at == 0 { joined(parts) } else { added(parts) }
            });
            side.change_by_moments(&both)
        };
        Ok(sides.iter().enumerate().map(change).collect())
    }

    /// m̂ ×₁ Q₁ᵀ Q₁ ⋯ ×ₖ Qₖᵀ Qₖ
    pub(super) fn preconditioned(&self, sides: &[Side<'_>]) -> Result<Buffer<f64>> {
        let width = self.width();
        let run = |rows: &Range<usize>| -> Result<Buffer<f64>> {
            let dims = self.dims_of(rows);
            let mut x = scratch(rows.len() * width)?;
            let scale = self.scale;
            elementwise::map(&self.m[self.numbers(rows)], &mut x, |m| m * scale);
            for side in sides {
                x = side.of_rows(rows).twice(x, &dims)?;
            }
            Ok(x)
        };
        let runs = self.runs(sides);
        if let [all] = &*runs {
            return run(all);
        }
        let mut out = scratch(self.m.len())?;
        let size = runs.first().map_or(1, |rows| (rows.len() * width).max(1));
        let work: Vec<_> = runs.iter().zip(out.chunks_mut(size)).collect();
        let cost = size * self.dims.iter().skip(1).sum::<usize>();
        let done = parallel::map(work, cost, |(rows, out)| {
            out.copy_from_slice(&run(rows)?);
            Ok(())
        });
        done.into_iter().collect::<Result<()>>()?;
        Ok(out)
    }

    /// The rows that are worked on at once.
    fn runs(&self, sides: &[Side<'_>]) -> Vec<Range<usize>> {
        let rows = self.dims.first().copied().unwrap_or(0);
        let diagonal = sides.first().is_some_and(|s| matches!(s.pattern, Pattern::Diagonal(_)));
        let size = (NUMBERS / self.width().max(1)).max(ROWS);
        let size = if diagonal && rows >= size * RUNS { size } else { rows.max(1) };
        (0..rows).step_by(size).map(|start| start..rows.min(start + size)).collect()
    }

    /// The numbers of a row.
    fn width(&self) -> usize {
        self.dims.iter().skip(1).product()
    }

    /// Where the numbers of rows are.
    fn numbers(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.width()..rows.end * self.width()
    }

    /// The dims of rows.
    fn dims_of(&self, rows: &Range<usize>) -> Vec<usize> {
        [&[rows.len()], self.dims.get(1..).unwrap_or_default()].concat()
    }

    /// A and B of some rows.
    fn turned(
        &self,
        sides: &[Side<'_>],
        rows: &Range<usize>,
        noise: f64,
        z: &[f64],
    ) -> Result<[Buffer<f64>; 2]> {
        let (dims, part, scale) = (self.dims_of(rows), self.numbers(rows), self.scale);
        let z = &z[part.clone()];
        let mut a = scratch(z.len())?;
        elementwise::map2(&self.m[part], z, &mut a, |m, z| m * scale + noise * z);
        let mut b = copy(z)?;
        for side in sides {
            let side = side.of_rows(rows);
            a = side.times(a, &dims)?;
            b = side.solve(b, &dims)?;
        }
        Ok([a, b])
    }

    /// AAᵀ and BBᵀ of each axis for the rows of some runs; of the first axis, the diagonals of those rows.
    fn moments(
        &self,
        sides: &[Side<'_>],
        runs: &[Range<usize>],
        noise: f64,
        z: &[f64],
    ) -> Result<Vec<[Buffer<f64>; 2]>> {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(Vec::new()) };
        let all = first.start..last.end;
        let zeros = |side: &Side<'_>| [0, 1].map(|_| side.of_rows(&all).pattern.zeros());
        let mut sums: Vec<_> = sides.iter().map(zeros).collect();
        for rows in runs {
            let (both, dims) = (self.turned(sides, rows, noise, z)?, self.dims_of(rows));
            for (at, (side, sums)) in sides.iter().zip(&mut sums).enumerate() {
                for (x, sum) in both.iter().zip(sums) {
                    let here = if at == 0 {
                        rows.start - all.start..rows.end - all.start
                    } else {
                        0..sum.len()
                    };
                    side.of_rows(rows).gram(x, &dims, 1.0, &mut sum[here]);
                }
            }
        }
        Ok(sums)
    }
}

/// One after another.
fn joined<'a>(parts: impl Iterator<Item = &'a [f64]>) -> Buffer<f64> {
    parts.collect::<Vec<_>>().concat().into()
}

/// Their sum.
fn added<'a>(mut parts: impl Iterator<Item = &'a [f64]>) -> Buffer<f64> {
    let mut sum = Buffer::from(parts.next().unwrap_or_default().to_vec());
    parts.for_each(|part| elementwise::update2(&mut sum, part, |sum, x| sum + x));
    sum
}

#[cfg(test)]
mod tests {
    use engine::Rng;

    use super::*;

    fn noise(numbers: usize, seed: u64) -> Vec<f64> {
        let mut out = vec![0.0; numbers];
        Rng::new(seed).fill_normal(&mut out);
        out
    }

    /// The axis' pattern, and a factor with it: 1 on the diagonal and a little above.
    fn factor(pattern: &Pattern, seed: u64) -> Vec<f64> {
        let n = pattern.size();
        let noise = noise(pattern.numbers(), seed);
        let entry = |at: usize| match pattern {
            Pattern::Diagonal(_) => 1.0 + noise[at].abs(),
            Pattern::Blocks(_) if at / n == at % n => 1.0 + noise[at].abs(),
            Pattern::Blocks(_) if at / n < at % n => 0.1 * noise[at],
            Pattern::Blocks(_) => 0.0,
        };
        (0..noise.len()).map(entry).collect()
    }

    #[test]
    fn runs_of_rows_do_what_all_rows_at_once_do() {
        for (dims, patterns) in [
            (vec![15_000, 9], vec![Pattern::Diagonal(15_000), Pattern::whole(9)]),
            (
                vec![1100, 4, 90],
                [Pattern::Diagonal(1100), Pattern::whole(4), Pattern::whole(90)].into(),
            ),
            (vec![2000, 70], vec![Pattern::Diagonal(2000), Pattern::Diagonal(70)]),
            (vec![140_001], vec![Pattern::Diagonal(140_001)]),
        ] {
            let numbers = dims.iter().product();
            let (m, z) = (noise(numbers, 1), noise(numbers, 2));
            let moment = Moment { m: &m, scale: 1.25, dims: &dims };
            let q: Vec<Vec<f64>> = patterns.iter().zip(3..).map(|(p, s)| factor(p, s)).collect();
            let all = || patterns.iter().zip(&q).enumerate();
            let sides: Vec<_> = all().map(|(i, (p, q))| Side::to_fit(i, p, q)).collect();
            assert!(moment.runs(&sides).len() > 1, "{dims:?}");

            let whole = 0..dims[0];
            let sum: f64 = m.iter().map(|m| (m * moment.scale).abs()).sum();
            let noise = NOISE * (sum / numbers as f64);
            let [a, b] = moment.turned(&sides, &whole, noise, &z).unwrap();
            for (side, change) in sides.iter().zip(moment.fit(&sides, &z).unwrap()) {
                let (mut got, mut expected) = (side.pattern.identity(), side.pattern.identity());
                change.apply(&mut got, 0.1);
                side.change([&a, &b], &dims).apply(&mut expected, 0.1);
                assert!(got.iter().zip(&*expected).all(|(x, y)| (x - y).abs() < 1e-12));
            }

            let sides: Vec<_> =
                all().map(|(i, (p, q))| Side::to_precondition(i, p, q, numbers)).collect();
            let mut expected = Buffer::from(m.iter().map(|m| m * moment.scale).collect::<Vec<_>>());
            for side in &sides {
                expected = side.twice(expected, &dims).unwrap();
            }
            let got = moment.preconditioned(&sides).unwrap();
            let close = |(x, y): (&f64, &f64)| (x - y).abs() < 1e-12 * y.abs().max(1.0);
            assert!(got.iter().zip(&*expected).all(close), "{dims:?}");
        }
    }
}
