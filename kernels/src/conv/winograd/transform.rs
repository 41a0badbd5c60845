//! The three linear maps of F(4×4, 3×3), in one dimension and in two.
//!
//! Four results of a filter with three taps are the coefficients of a product of polynomials, and that
//! is known from its values at six points: y = Aᵀ \[(G w) ∘ (Bᵀ d)\], six products instead of twelve.
//! In two dimensions each map is applied along columns and then along rows.
//!
//! The points are 0, ±p, ±q and ∞ with p = 3/4, q = 3/2. With Winograd's 0, ±1, ±2, ∞ the rounding
//! error is 3 times as large; these two are exact in binary and close to the best ones of Barabasz et
//! al. With M(t) = t (t² − p²) (t² − q²), for a point a the row of Bᵀ holds the coefficients of
//! M(t) / (t − a), the row of G is (1, a, a²) / M′(a), and the column of Aᵀ is (1, a, a², a³).
//!
//! Sources: Lavin & Gray 2016, section 4.3; Barabasz, Anderson, Soodhalter & Gregg 2020, table 3.

use crate::conv::register_tile::LANES;
use crate::float::Float;

/// The side of a tile of results.
pub(super) const RESULTS: usize = 4;
/// The side of a tile of inputs, and of the products.
pub(super) const POINTS: usize = 6;
/// The side of a filter.
pub(super) const TAPS: usize = 3;

/// p², q².
const P: f64 = 0.75;
const Q: f64 = 1.5;

/// Numbers for [`LANES`] channels at once.
pub(super) type Lanes<T> = [T; LANES];

/// d ↦ Bᵀ d
#[inline(always)]
pub(super) fn input<T: Float>(d: [T; POINTS]) -> [T; POINTS] {
    let [sum, product] = [T::of(P * P + Q * Q), T::of(P * P * Q * Q)];
    let [p, q, p2, q2] = [P, Q, P * P, Q * Q].map(T::of);
    let even = [d[4] - q2 * d[2], d[4] - p2 * d[2]];
    let odd = [p * (d[3] - q2 * d[1]), q * (d[3] - p2 * d[1])];
    [
        product * d[0] - sum * d[2] + d[4],
        even[0] + odd[0],
        even[0] - odd[0],
        even[1] + odd[1],
        even[1] - odd[1],
        product * d[1] - sum * d[3] + d[5],
    ]
}

/// w ↦ G w
#[inline(always)]
pub(super) fn filter<T: Float>(w: [T; TAPS]) -> [T; POINTS] {
    let [zero, at_p, at_q] = SLOPES.map(|slope| T::of(1.0 / slope));
    let [p, q, p2, q2] = [P, Q, P * P, Q * Q].map(T::of);
    let (even, odd) = ([w[0] + p2 * w[2], w[0] + q2 * w[2]], [p * w[1], q * w[1]]);
    [
        zero * w[0],
        at_p * (even[0] + odd[0]),
        at_p * (even[0] - odd[0]),
        at_q * (even[1] + odd[1]),
        at_q * (even[1] - odd[1]),
        w[2],
    ]
}

/// M′ at 0, ±p, ±q.
const SLOPES: [f64; 3] =
    [P * P * Q * Q, 2.0 * P * P * (P * P - Q * Q), 2.0 * Q * Q * (Q * Q - P * P)];

/// m ↦ Aᵀ m
#[inline(always)]
pub(super) fn output<T: Float>(m: [T; POINTS]) -> [T; RESULTS] {
    let [p, q, p2, q2] = [P, Q, P * P, Q * Q].map(T::of);
    let (even, odd) = ([m[1] + m[2], m[3] + m[4]], [p * (m[1] - m[2]), q * (m[3] - m[4])]);
    [
        m[0] + even[0] + even[1],
        odd[0] + odd[1],
        p2 * even[0] + q2 * even[1],
        p2 * odd[0] + q2 * odd[1] + m[5],
    ]
}

/// g ↦ A g, the adjoint of [`output`].
#[inline(always)]
pub(super) fn output_adjoint<T: Float>(g: [T; RESULTS]) -> [T; POINTS] {
    let [p, q, p2, q2] = [P, Q, P * P, Q * Q].map(T::of);
    let even = [g[0] + p2 * g[2], g[0] + q2 * g[2]];
    let odd = [p * (g[1] + p2 * g[3]), q * (g[1] + q2 * g[3])];
    [g[0], even[0] + odd[0], even[0] - odd[0], even[1] + odd[1], even[1] - odd[1], g[3]]
}

/// u ↦ Gᵀ u, the adjoint of [`filter`].
#[inline(always)]
pub(super) fn filter_adjoint<T: Float>(u: [T; POINTS]) -> [T; TAPS] {
    let [zero, at_p, at_q] = SLOPES.map(|slope| T::of(1.0 / slope));
    let [p, q, p2, q2] = [P, Q, P * P, Q * Q].map(T::of);
    let even = [at_p * (u[1] + u[2]), at_q * (u[3] + u[4])];
    let odd = [p * at_p * (u[1] - u[2]), q * at_q * (u[3] - u[4])];
    [zero * u[0] + even[0] + even[1], odd[0] + odd[1], p2 * even[0] + q2 * even[1] + u[5]]
}

/// A one-dimensional map along columns, then along rows: X ↦ M X Mᵀ, for all lanes.
///
/// `from(i · I + j)` is read once for each entry; `to(i · O + j, x)` is called once for each result.
#[inline(always)]
pub(super) fn both_ways<T: Float, const I: usize, const O: usize>(
    map: impl Fn([T; I]) -> [T; O],
    from: impl Fn(usize) -> Lanes<T>,
    mut to: impl FnMut(usize, &Lanes<T>),
) {
    let mut half = [[[T::ZERO; LANES]; I]; O];
    for (j, column) in (0..I).map(|j| (j, std::array::from_fn(|i| from(i * I + j)))) {
        let column: [Lanes<T>; I] = column;
        for lane in 0..LANES {
            let mapped = map(std::array::from_fn(|i| column[i][lane]));
            half.iter_mut().zip(mapped).for_each(|(half, x)| half[j][lane] = x);
        }
    }
    for (i, row) in half.iter().enumerate() {
        let mut mapped = [[T::ZERO; LANES]; O];
        for lane in 0..LANES {
            let results = map(std::array::from_fn(|j| row[j][lane]));
            mapped.iter_mut().zip(results).for_each(|(mapped, x)| mapped[lane] = x);
        }
        for (j, mapped) in mapped.iter().enumerate() {
            to(i * O + j, mapped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::noise;

    fn array<const N: usize>(seed: u64) -> [f64; N] {
        let mut out = [0.0; N];
        out.copy_from_slice(&noise::<f64>(N, seed));
        out
    }

    fn dot<const N: usize>(a: [f64; N], b: [f64; N]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn six_products_give_four_results_of_a_filter_with_three_taps() {
        let (d, w) = (array(1), array(2));
        let (u, v) = (filter(w), input(d));
        let got = output(std::array::from_fn(|i| u[i] * v[i]));
        for (i, got) in got.iter().enumerate() {
            let want = dot(w, [d[i], d[i + 1], d[i + 2]]);
            assert!((got - want).abs() < 1e-14, "{got} {want}");
        }
    }

    #[test]
    fn adjoints_are_adjoint() {
        let (m, g, w, u) = (array(1), array(2), array(3), array(4));
        assert!((dot(output(m), g) - dot(m, output_adjoint(g))).abs() < 1e-14);
        assert!((dot(filter(w), u) - dot(w, filter_adjoint(u))).abs() < 1e-14);
    }
}
