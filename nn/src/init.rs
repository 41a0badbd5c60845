//! Starting values. A weight is `[out, in]` or `[out, in/groups, KH, KW]`; its fan-in is the number
//! of inputs that one output sums over, its fan-out the number of outputs that one input reaches.
//!
//! | function | distribution | source |
//! |---|---|---|
//! | [`fan_in_uniform`] | U(−1/√fan_in, 1/√fan_in) | PyTorch's default, LeCun et al. 1998 |
//! | [`kaiming_uniform`], [`kaiming_normal`] | variance gain² / fan_in | He et al. 2015, eq. 10 |
//! | [`fan_out_normal`] | variance gain² / fan_out | He et al. 2015, eq. 14 |
//! | [`xavier_uniform`], [`xavier_normal`] | variance 2 gain² / (fan_in + fan_out) | Glorot & Bengio 2010, eq. 12, 16 |
//! | [`truncated_normal`] | N(0, σ²) within ± 2σ | |
//! | [`orthogonal`] | gain · Q | Saxe et al. 2014 |

use engine::{DType, Parameter, Result, Rng, Shape, Tensor};

/// (fan-in, fan-out) of a weight's shape; a vector counts as `[n, 1]`, a scalar as `[1, 1]`.
///
/// # Example
/// ```
/// use alcyon_nn::init::fans;
/// assert_eq!(fans(&[10, 4].into()), (4, 10));
/// assert_eq!(fans(&[8, 3, 5, 5].into()), (75, 200));
/// ```
#[must_use]
pub fn fans(shape: &Shape) -> (usize, usize) {
    let taps = shape.iter().skip(2).fold(1, |taps: usize, &size| taps.saturating_mul(size));
    let axis = |i: usize| shape.get(i).copied().unwrap_or(1);
    (taps.saturating_mul(axis(1)), taps.saturating_mul(axis(0)))
}

/// √(2 / (1 + slope²)): keeps the variance of activations through a (leaky) relu.
///
/// # Example
/// ```
/// assert_eq!(alcyon_nn::init::relu_gain(0.0), 2.0_f64.sqrt());
/// assert_eq!(alcyon_nn::init::relu_gain(1.0), 1.0);
/// ```
#[must_use]
pub fn relu_gain(slope: f64) -> f64 {
    (2.0 / (1.0 + slope * slope)).sqrt()
}

/// U(−1/√fan_in, 1/√fan_in) with a given fan-in: PyTorch's default for the weights *and* biases of
/// linear and convolutional layers (there written as `kaiming_uniform` with slope √5).
#[must_use]
pub fn fan_in_uniform(shape: impl Into<Shape>, fan_in: usize, rng: &mut Rng) -> Tensor {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Tensor::uniform(shape, -bound, bound, DType::F32, rng)
}

/// A weight and a bias of the given length, both [`fan_in_uniform`] with the fan-in of the weight: how
/// linear layers and convolutions start.
///
/// # Example
/// ```
/// let (weight, bias) = alcyon_nn::init::weight_and_bias([10, 4], 10, &mut engine::Rng::new(0));
/// let largest = |t: &engine::Tensor| t.abs()?.max(0)?.to_f64_vec();
/// assert!(largest(bias.value())?.iter().chain(&largest(weight.value())?).all(|&x| x <= 0.5));
/// # Ok::<(), engine::Error>(())
/// ```
#[must_use]
pub fn weight_and_bias(
    weight: impl Into<Shape>,
    outputs: usize,
    rng: &mut Rng,
) -> (Parameter, Parameter) {
    let weight = weight.into();
    let mut draw = |shape| Parameter::new(fan_in_uniform(shape, fans(&weight).0, rng));
    (draw(weight), draw([outputs].into()))
}

/// U(−b, b) with b = gain · √(3 / fan_in).
#[must_use]
pub fn kaiming_uniform(shape: impl Into<Shape>, gain: f64, rng: &mut Rng) -> Tensor {
    let shape = shape.into();
    uniform(shape, gain / (fans(&shape).0.max(1) as f64).sqrt(), rng)
}

/// N(0, gain² / fan_in).
#[must_use]
pub fn kaiming_normal(shape: impl Into<Shape>, gain: f64, rng: &mut Rng) -> Tensor {
    let shape = shape.into();
    let deviation = gain / (fans(&shape).0.max(1) as f64).sqrt();
    Tensor::normal(shape, 0.0, deviation, DType::F32, rng)
}

/// N(0, gain² / fan_out): keeps the variance of gradients, where [`kaiming_normal`] keeps that of
/// activations.
#[must_use]
pub fn fan_out_normal(shape: impl Into<Shape>, gain: f64, rng: &mut Rng) -> Tensor {
    let shape = shape.into();
    let deviation = gain / (fans(&shape).1.max(1) as f64).sqrt();
    Tensor::normal(shape, 0.0, deviation, DType::F32, rng)
}

/// U(−b, b) with b = gain · √(6 / (fan_in + fan_out)).
#[must_use]
pub fn xavier_uniform(shape: impl Into<Shape>, gain: f64, rng: &mut Rng) -> Tensor {
    let shape = shape.into();
    uniform(shape, xavier_deviation(&shape, gain), rng)
}

/// N(0, 2 gain² / (fan_in + fan_out)).
#[must_use]
pub fn xavier_normal(shape: impl Into<Shape>, gain: f64, rng: &mut Rng) -> Tensor {
    let shape = shape.into();
    Tensor::normal(shape, 0.0, xavier_deviation(&shape, gain), DType::F32, rng)
}

/// N(0, deviation²), drawn again where it falls outside ± 2 deviations. The result's own deviation
/// is 0.8796 of the one given.
#[must_use]
pub fn truncated_normal(shape: impl Into<Shape>, deviation: f64, rng: &mut Rng) -> Tensor {
    use rand_distr::{Distribution, StandardNormal};
    Tensor::from_fn(shape, DType::F32, |_| {
        loop {
            let z: f64 = StandardNormal.sample(rng);
            if z.abs() <= 2.0 {
                return deviation * z;
            }
        }
    })
}

/// gain · Q, where the rows of Q (its columns, if the weight is taller than wide) are orthonormal
/// and uniformly distributed: a normal matrix, orthogonalised. Axes after the first count as one.
///
/// # Errors
/// As [`Tensor::made`].
pub fn orthogonal(shape: impl Into<Shape>, gain: f64, rng: &mut Rng) -> Result<Tensor> {
    let shape = shape.into().checked("orthogonal")?;
    let (rows, columns) = (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product());
    let (count, width) = if rows <= columns { (rows, columns) } else { (columns, rows) };
    let mut vectors = Tensor::normal([count, width], 0.0, gain, DType::F64, rng);
    orthonormalise(vectors.make_mut::<f64>()?, width);
    let q = if rows <= columns { vectors } else { vectors.transpose(0, 1)? };
    q.scale(gain)?.reshape(shape)?.to_dtype(DType::F32)
}

/// Gram–Schmidt on the rows. Each is cleared of the earlier ones twice: "twice is enough" for
/// orthogonality to rounding (Giraud et al. 2005).
fn orthonormalise(vectors: &mut [f64], width: usize) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for i in 0..vectors.len().checked_div(width).unwrap_or(0) {
        let (done, rest) = vectors.split_at_mut(i * width);
        let row = &mut rest[..width];
        for _ in 0..2 {
            for earlier in done.chunks_exact(width) {
                let along = dot(row, earlier);
                row.iter_mut().zip(earlier).for_each(|(x, e)| *x -= along * e);
            }
        }
        let length = dot(row, row).sqrt();
        row.iter_mut().for_each(|x| *x /= length);
    }
}

/// The uniform distribution around 0 with a given deviation: its bound is √3 times that.
fn uniform(shape: Shape, deviation: f64, rng: &mut Rng) -> Tensor {
    let bound = 3.0_f64.sqrt() * deviation;
    Tensor::uniform(shape, -bound, bound, DType::F32, rng)
}

fn xavier_deviation(shape: &Shape, gain: f64) -> f64 {
    let (fan_in, fan_out) = fans(shape);
    gain * (2.0 / fan_in.saturating_add(fan_out).max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (mean, deviation, largest size)
    fn figures(t: &Tensor) -> (f64, f64, f64) {
        let x = t.to_f64_vec().unwrap();
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt(), x.iter().fold(0.0, |m, x| m.max(x.abs())))
    }

    #[test]
    fn each_distribution_has_its_mean_deviation_and_bound() {
        let shape = Shape::from([64, 16, 3, 3]); // fan-in 144, fan-out 576
        let mut rng = Rng::new(1);
        let kaiming = 2.0_f64.sqrt() / 12.0;
        let xavier = (2.0_f64 / 720.0).sqrt();
        let root3 = 3.0_f64.sqrt();
        let unbounded = f64::INFINITY;
        for (t, deviation, bound) in [
            (fan_in_uniform(shape, 144, &mut rng), 1.0 / 12.0 / root3, 1.0 / 12.0),
            (kaiming_uniform(shape, relu_gain(0.0), &mut rng), kaiming, root3 * kaiming),
            (kaiming_normal(shape, relu_gain(0.0), &mut rng), kaiming, unbounded),
            (fan_out_normal(shape, 12.0, &mut rng), 0.5, unbounded),
            (xavier_uniform(shape, 1.0, &mut rng), xavier, root3 * xavier),
            (xavier_normal(shape, 1.0, &mut rng), xavier, unbounded),
            (truncated_normal(shape, 0.02, &mut rng), 0.8796 * 0.02, 0.04),
        ] {
            let (mean, got, largest) = figures(&t);
            // 9,216 draws: five standard errors of the mean, and of the deviation of a normal.
            let error = 5.0 / 9216.0_f64.sqrt();
            assert!(mean.abs() < error * deviation, "{mean}");
            assert!((got / deviation - 1.0).abs() < error, "{got} for {deviation}");
            assert!(largest <= bound * (1.0 + 1e-6), "{largest} for {bound}");
        }
    }

    #[test]
    fn the_slope_of_five_roots_makes_kaiming_the_default_of_linear_layers() {
        let shape = Shape::from([7, 5]);
        let kaiming = kaiming_uniform(shape, relu_gain(5.0_f64.sqrt()), &mut Rng::new(3));
        let default = fan_in_uniform(shape, 5, &mut Rng::new(3));
        let pairs = kaiming.to_f64_vec().unwrap().into_iter().zip(default.to_f64_vec().unwrap());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-7));
    }

    #[test]
    fn an_orthogonal_weight_times_its_transpose_is_the_identity_on_the_shorter_side() {
        for shape in [Shape::from([5, 12]), Shape::from([12, 5]), Shape::from([4, 2, 3, 1])] {
            let q = orthogonal(shape, 3.0, &mut Rng::new(0)).unwrap().flatten(1).unwrap();
            let q = q.to_dtype(DType::F64).unwrap().scale(1.0 / 3.0).unwrap();
            let t = q.transpose(0, 1).unwrap();
            let wide = q.shape()[0] <= q.shape()[1];
            let gram = if wide { q.matmul(&t) } else { t.matmul(&q) }.unwrap();
            let eye = Tensor::eye(gram.shape()[0], DType::F64);
            let gap = gram.sub(&eye).unwrap().to_f64_vec().unwrap();
            assert!(gap.iter().all(|x| x.abs() < 1e-6), "{gap:?}");
        }
    }

    #[test]
    fn shapes_without_elements_are_filled_with_nothing() {
        let empty = fan_in_uniform([3, 0], 0, &mut Rng::new(0));
        assert_eq!(empty.numel(), 0);
        assert_eq!(orthogonal([0, 4], 1.0, &mut Rng::new(0)).unwrap().numel(), 0);
    }
}
