//! How a byte of a picture becomes a number.

use engine::{Error, Result};

/// (b / 255 − mean) / deviation, with one mean and one deviation for each channel.
///
/// # Example
/// ```
/// use alcyon_nn::data::{Images, Normalise};
/// let mut images = Images::new("toy", [1, 1, 2], vec![0, 255], vec![0], &["a"])?;
/// images.normalise = Normalise { mean: vec![0.5], deviation: vec![0.25] };
/// assert_eq!(images.dataset()?.inputs.to_vec::<f32>()?, [-2.0, 2.0]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Normalise {
    /// Of each channel's training pixels after division by 255; one figure serves all channels.
    pub mean: Vec<f64>,
    /// As `mean`.
    pub deviation: Vec<f64>,
}

impl Normalise {
    /// b / 255.
    #[must_use]
    pub fn none() -> Self {
        Self { mean: vec![0.0], deviation: vec![1.0] }
    }

    /// Three channels' figures.
    #[must_use]
    pub fn rgb(mean: [f64; 3], deviation: [f64; 3]) -> Self {
        Self { mean: mean.to_vec(), deviation: deviation.to_vec() }
    }

    /// Slope and offset of each channel: number = slope · byte + offset.
    pub(super) fn lines(&self, channels: usize) -> Result<Vec<[f32; 2]>> {
        let of = |list: &[f64], c: usize| if list.len() == 1 { list[0] } else { list[c] };
        let fits = |list: &[f64]| list.len() == 1 || list.len() == channels;
        let divides = self.deviation.iter().all(|d| d.is_finite() && *d > 0.0);
        if !fits(&self.mean) || !fits(&self.deviation) || !divides {
            return Err(Error::Argument {
                op: "normalise",
                name: "mean and deviation",
                expected: "one for each channel or one for all, the deviations positive",
                got: format!("{self:?} for {channels} channels"),
            });
        }
        let line = |c| {
            let (mean, deviation) = (of(&self.mean, c), of(&self.deviation, c));
            [(1.0 / (255.0 * deviation)) as f32, (-mean / deviation) as f32]
        };
        Ok((0..channels).map(line).collect())
    }
}
