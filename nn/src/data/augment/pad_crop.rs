//! Pad and crop (He et al. 2016, section 4.2): the picture, moved by at most `padding` pixels each
//! way, with black where it was not.

use engine::Rng;

use super::{Augment, View, below};

/// A window of the picture's own size, anywhere within `padding` pixels of black around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PadCrop {
    /// Pixels on each side; 4 for CIFAR.
    pub padding: usize,
}

impl Augment for PadCrop {
    fn change(&self, view: &mut View, rng: &mut Rng) {
        let size = view.size();
        let from = [(); 2].map(|()| below(rng, 2 * self.padding + 1) as f64 - self.padding as f64);
        view.crop(from, size.map(|side| side as f64), size);
    }
}
