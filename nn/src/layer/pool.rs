//! Pooling: one number for each window of an image.

use engine::{Result, Var, Window, parameters};

use crate::Module;

/// The largest entry under each window. Padding never wins.
///
/// # Shape
/// x: `[N, C, H, W]` · result: `[N, C, OH, OW]` with OH, OW as [`Window::output`] says
///
/// # Example
/// ```
/// use alcyon_nn::{MaxPool2d, Module};
/// use engine::{DType, Tensor};
/// let x = Tensor::arange(16, DType::F32).reshape([1, 1, 4, 4])?;
/// assert_eq!(MaxPool2d::new(2).predict(&x)?.to_vec::<f32>()?, [5.0, 7.0, 13.0, 15.0]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2d {
    /// How it slides.
    pub window: Window,
}
parameters!(MaxPool2d {});

impl MaxPool2d {
    /// Square windows that touch and do not overlap.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { window: tiles(size) }
    }
}

impl Module for MaxPool2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.max_pool2d(self.window)
    }
}

/// The mean under each window; zeros of the padding count, as in PyTorch.
///
/// # Shape
/// x: `[N, C, H, W]` · result: `[N, C, OH, OW]` with OH, OW as [`Window::output`] says
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool2d {
    /// How it slides.
    pub window: Window,
    /// Whether means are divided by the window's size, padding included; true at first.
    pub count_include_pad: bool,
}
parameters!(AvgPool2d {});

impl AvgPool2d {
    /// Square windows that touch and do not overlap.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { window: tiles(size), count_include_pad: true }
    }
}

impl Module for AvgPool2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.avg_pool2d(self.window, self.count_include_pad)
    }
}

/// The means of windows chosen so that the result has a given size, whatever the image's;
/// size (1, 1) is the mean of each channel.
///
/// # Shape
/// x: `[N, C, H, W]` · result: `[N, C, OH, OW]` with the size asked for
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveAvgPool2d {
    /// (OH, OW)
    pub size: (usize, usize),
}
parameters!(AdaptiveAvgPool2d {});

impl AdaptiveAvgPool2d {
    /// Means with a result of size (OH, OW).
    #[must_use]
    pub const fn new(size: (usize, usize)) -> Self {
        Self { size }
    }
}

impl Module for AdaptiveAvgPool2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.adaptive_avg_pool2d(self.size)
    }
}

const fn tiles(size: usize) -> Window {
    Window { kernel: (size, size), stride: (size, size), padding: (0, 0), dilation: (1, 1) }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Error, Tensor};

    use super::*;

    fn ramp() -> Tensor {
        Tensor::arange(16, DType::F32).reshape([1, 1, 4, 4]).unwrap()
    }

    #[test]
    fn averages_of_tiles_are_those_of_their_corners() {
        let expected = [2.5, 4.5, 10.5, 12.5];
        for y in
            [AvgPool2d::new(2).predict(&ramp()), AdaptiveAvgPool2d::new((2, 2)).predict(&ramp())]
        {
            assert_eq!(y.unwrap().to_vec::<f32>().unwrap(), expected);
        }
        let whole = AdaptiveAvgPool2d::new((1, 1)).predict(&ramp()).unwrap();
        assert!((whole.item().unwrap() - 7.5).abs() < 1e-6);
    }

    #[test]
    fn a_window_of_nothing_is_refused() {
        assert!(matches!(
            MaxPool2d::new(0).predict(&ramp()),
            Err(Error::Argument { .. } | Error::Shape { .. })
        ));
        assert!(matches!(
            AvgPool2d::new(0).predict(&ramp()),
            Err(Error::Argument { .. } | Error::Shape { .. })
        ));
    }
}
