//! How much of a damped block B + λ I is curvature, and how much is λ.
//!
//! ```text
//! curvature   tr B / (tr B + P λ)           the share of the trace
//! effective   1/P Σ s / (s + λ)             the share of directions that B decides; MacKay 1992
//! spread      (max s + λ) / (min s + λ)     the longest step over the shortest, for equal gradients
//! ```
//! With a spread near 1 an optimizer that divides by B + λ I is gradient descent at the rate α/λ.

/// The shares of one block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Damped {
    /// λ
    pub damping: f64,
    /// tr B / (tr B + P λ), in [0, 1].
    pub curvature: f64,
    /// 1/P Σ s / (s + λ), in [0, 1].
    pub effective: f64,
    /// (max s + λ) / (min s + λ), at least 1.
    pub spread: f64,
}

impl Damped {
    /// Of a block of size P with these eigenvalues; those that are left out are 0.
    ///
    /// # Example
    /// ```
    /// use alcyon_optim::audit::Damped;
    /// let damped = Damped::of(&[3.0], 2, 1.0); // diag(3, 0) + I
    /// assert_eq!((damped.curvature, damped.effective, damped.spread), (0.6, 0.375, 4.0));
    /// ```
    #[must_use]
    pub fn of(eigenvalues: &[f64], size: usize, damping: f64) -> Self {
        let trace: f64 = eigenvalues.iter().sum();
        let decided: f64 = eigenvalues.iter().map(|s| share(*s, s + damping)).sum();
        let zero = (eigenvalues.len() < size).then_some(0.0);
        let all = || eigenvalues.iter().copied().chain(zero);
        let low = all().fold(f64::INFINITY, f64::min);
        let high = all().fold(0.0, f64::max);
        Self {
            damping,
            curvature: share(trace, trace + size as f64 * damping),
            effective: decided / size.max(1) as f64,
            spread: if size == 0 { 1.0 } else { (high + damping) / (low + damping) },
        }
    }
}

/// 0 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
