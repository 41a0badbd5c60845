//! Mirroring.

use engine::Rng;

use super::{Augment, View, uniform};

/// Mirrors one picture in two, left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HorizontalFlip;

impl Augment for HorizontalFlip {
    fn change(&self, view: &mut View, rng: &mut Rng) {
        if uniform(rng) < 0.5 {
            view.mirror();
        }
    }
}
