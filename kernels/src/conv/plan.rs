//! Which rung computes a convolution: a function of its sizes and of nothing else.

use super::{Conv2d, winograd};
use crate::float::Float;

/// The ways to compute a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rung {
    Depthwise,
    Unfolded,
    Winograd,
}

/// The fewest channels on both sides that repay the transforms.
const CHANNELS: usize = 16;

/// The rung for the output and for both gradients.
pub(super) fn plan<T: Float>(conv: &Conv2d) -> Rung {
    if conv.is_depthwise() {
        return Rung::Depthwise;
    }
    // f64 is for those who want every digit: there the definition is summed as it stands.
    let rounds_anyway = size_of::<T>() == size_of::<f32>();
    let wide = conv.in_channels.min(conv.out_channels) >= CHANNELS;
    if rounds_anyway && wide && winograd::fits(conv) { Rung::Winograd } else { Rung::Unfolded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unfold::Window;

    #[test]
    fn the_rung_follows_from_the_sizes() {
        let around = Window { padding: (1, 1), ..Window::new((3, 3)) };
        let of = |groups, channels, window| {
            Conv2d::new(2, groups, channels, 32, (9, 9), window).map(|conv| plan::<f32>(&conv))
        };
        assert_eq!(of(1, 32, around), Some(Rung::Winograd));
        assert_eq!(of(1, 3, around), Some(Rung::Unfolded));
        assert_eq!(of(2, 32, around), Some(Rung::Unfolded));
        assert_eq!(of(32, 32, around), Some(Rung::Depthwise));
        assert_eq!(of(1, 32, Window { stride: (2, 2), ..around }), Some(Rung::Unfolded));
        assert_eq!(of(1, 32, Window::new((1, 1))), Some(Rung::Unfolded));
        let conv = Conv2d::new(2, 1, 32, 32, (9, 9), around);
        assert_eq!(conv.map(|conv| plan::<f64>(&conv)), Some(Rung::Unfolded));
    }
}
