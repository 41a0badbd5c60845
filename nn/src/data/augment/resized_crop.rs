//! Windows of any size, brought to one size: at random for training, in the middle for tests.

use engine::Rng;

use super::{Augment, View, below, uniform};

/// A random window (Szegedy et al. 2015, section 6): its area a uniform share of the picture's,
/// the logarithm of width over height uniform. Ten tries to find one that fits, then the largest
/// in the middle whose shape is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomResizedCrop {
    /// Height and width of what comes out, in pixels.
    pub size: [usize; 2],
    /// Least and greatest share of the area; 0.08 and 1 for ImageNet.
    pub area: [f64; 2],
    /// Least and greatest width over height; 3/4 and 4/3 for ImageNet.
    pub aspect: [f64; 2],
}

impl RandomResizedCrop {
    /// ImageNet's, to a square of `side` pixels.
    #[must_use]
    pub const fn new(side: usize) -> Self {
        Self { size: [side; 2], area: [0.08, 1.0], aspect: [3.0 / 4.0, 4.0 / 3.0] }
    }

    /// The middle of a picture, as large as the aspect allows.
    pub(super) fn middle(&self, [height, width]: [usize; 2]) -> ([f64; 2], [f64; 2]) {
        let (height, width) = (height as f64, width as f64);
        let aspect = (width / height).clamp(self.aspect[0], self.aspect[1]);
        let window = [height.min((width / aspect).round()), width.min((height * aspect).round())];
        ([((height - window[0]) / 2.0).floor(), ((width - window[1]) / 2.0).floor()], window)
    }
}

impl Augment for RandomResizedCrop {
    fn change(&self, view: &mut View, rng: &mut Rng) {
        let [height, width] = view.size();
        let between = |rng: &mut Rng, [low, high]: [f64; 2]| low + (high - low) * uniform(rng);
        let drawn = (0..10).find_map(|_| {
            let area = (height * width) as f64 * between(rng, self.area);
            let aspect = between(rng, self.aspect.map(f64::ln)).exp();
            let rows = (area / aspect).sqrt().round() as usize;
            let columns = (area * aspect).sqrt().round() as usize;
            if !(1..=height).contains(&rows) || !(1..=width).contains(&columns) {
                return None;
            }
            let from =
                [below(rng, height - rows + 1) as f64, below(rng, width - columns + 1) as f64];
            Some((from, [rows as f64, columns as f64]))
        });
        let (from, window) = drawn.unwrap_or_else(|| self.middle([height, width]));
        view.crop(from, window, self.size);
    }
}

/// The middle of a picture, for tests: its shorter side counts as `shorter` pixels, and of that the
/// middle `size`×`size` comes out. ImageNet's is 224 of 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CenterCrop {
    /// Height and width of what comes out, in pixels.
    pub size: usize,
    /// The shorter side of the picture that it is cut from, in the same pixels.
    pub shorter: usize,
}

impl Augment for CenterCrop {
    fn change(&self, view: &mut View, _: &mut Rng) {
        let sides = view.size().map(|side| side as f64);
        let window = sides[0].min(sides[1]) * self.size as f64 / self.shorter as f64;
        view.crop(sides.map(|side| (side - window) / 2.0), [window; 2], [self.size; 2]);
    }
}
