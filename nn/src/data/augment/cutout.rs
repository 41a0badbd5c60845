//! Cutout (DeVries & Taylor 2017, arXiv 1708.04552): a square of zeros at a random place.

use engine::Rng;

use super::{Augment, View, below};

/// Zeroes a square after normalisation. Its centre is any pixel, so it may reach over the edge, as
/// in the paper's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutout {
    /// The square's side in pixels: 16 for CIFAR-10, 8 for CIFAR-100.
    pub side: usize,
}

impl Augment for Cutout {
    fn change(&self, view: &mut View, rng: &mut Rng) {
        let half = (self.side / 2) as f64;
        let centre = view.size().map(|size| below(rng, size) as f64);
        let from = centre.map(|at| at - half);
        view.cut(from, from.map(|at| at + self.side as f64));
    }
}
