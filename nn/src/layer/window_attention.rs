//! Attention within windows of an image, with a bias for every relative position.

use engine::compose::Padding;
use engine::{DType, Error, Parameter, Result, Rng, Tensor, Var, parameters};

use crate::{Linear, Module};

/// What is added to the scores of pixels that are only next to each other because the image was rolled.
const APART: f64 = -100.0;

/// Multi-head self-attention among the w × w pixels of each window, which are moved by `shift` pixels from
/// the image's corner:
///
/// ```text
/// softmax(q kᵀ / √d + b + m) v        b: a number for each head and relative position
///                                     m: keeps apart what the image's edge separates
/// ```
/// An image that windows do not fill is padded with zeros at the right and below, which take part as pixels
/// do; an axis with a single window is not shifted. The table of b is looked up like an embedding, so that
/// it has a layer record.
///
/// # Shape
/// relative_position_bias_table: `[(2 w − 1)², heads]` · qkv: `[3 D, D]` · proj: `[D, D]` ·
/// x: `[N, H, W, D]` · result: as x
///
/// # Source
/// Liu et al. 2021, section 3.2 and eq. 4; padding and the finite m as torchvision.
///
/// # Example
/// ```
/// use alcyon_nn::{Module, WindowAttention};
/// use engine::{DType, Rng, Tensor};
/// let attention = WindowAttention::new(4, 2, 2, 0, &mut Rng::new(0))?;
/// let x = Tensor::normal([1, 2, 4, 4], 0.0, 1.0, DType::F32, &mut Rng::new(1)); // two windows
/// let left = |x: &Tensor| attention.predict(x)?.narrow(2, 0, 2)?.to_vec::<f32>();
/// // The right window does not change the left one.
/// let other = Tensor::concat(&[&x.narrow(2, 0, 2)?, &x.narrow(2, 0, 2)?], 2)?;
/// assert_eq!(left(&x)?, left(&other)?);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct WindowAttention {
    /// `[(2 w − 1)², heads]`; row (Δrow + w − 1)(2 w − 1) + Δcolumn + w − 1.
    pub relative_position_bias_table: Parameter,
    /// To queries, keys and values, one after another.
    pub qkv: Linear,
    /// From the heads, side by side.
    pub proj: Linear,
    heads: usize,
    window: usize,
    shift: usize,
    /// The row of the table for every pair of pixels of a window, `[w⁴]`.
    pairs: Tensor,
}
parameters!(WindowAttention { relative_position_bias_table, qkv, proj });

impl WindowAttention {
    /// Weights and table from N(0, 0.02²), biases 0.
    ///
    /// # Errors
    /// [`Error::Argument`] when the heads do not divide the width, or the shift is not less than the window.
    pub fn new(
        width: usize,
        heads: usize,
        window: usize,
        shift: usize,
        rng: &mut Rng,
    ) -> Result<Self> {
        let refuse = |name, expected, got| {
            Err(Error::Argument { op: "window_attention", name, expected, got })
        };
        if heads == 0 || !width.is_multiple_of(heads) {
            let got = format!("{heads} for width {width}");
            return refuse("heads", "at least 1 and a divisor of the width", got);
        }
        if shift >= window {
            return refuse("shift", "less than the window", format!("{shift} of {window}"));
        }
        let span = 2 * window - 1;
        let mut normal = |rows: usize, columns: usize| {
            Parameter::new(Tensor::normal([rows, columns], 0.0, 0.02, DType::F32, rng))
        };
        let zeros = |n: usize| Some(Parameter::new(Tensor::zeros([n], DType::F32)));
        let area = window * window;
        let row = |pair: usize| {
            let (q, k) = (pair / area, pair % area);
            let apart = |q: usize, k: usize| q + window - 1 - k;
            apart(q / window, k / window) * span + apart(q % window, k % window)
        };
        Ok(Self {
            relative_position_bias_table: normal(span * span, heads),
            qkv: Linear { weight: normal(3 * width, width), bias: zeros(3 * width) },
            proj: Linear { weight: normal(width, width), bias: zeros(width) },
            heads,
            window,
            shift,
            pairs: Tensor::from_fn([area * area], DType::I64, |pair| row(pair) as f64),
        })
    }

    /// b, `[heads, w², w²]`.
    fn bias(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let pairs = tape.input(self.pairs.to_device(x.device())?);
        let rows = pairs.embedding(&tape.bind(&self.relative_position_bias_table))?;
        let area = self.window * self.window;
        rows.reshape([area, area, self.heads])?.permute(&[2, 0, 1])
    }

    /// m, `[windows, 1, w², w²]`, for an image of windows `down` × `across` that was rolled.
    fn apart(&self, down: (usize, usize), across: (usize, usize), dtype: DType) -> Tensor {
        let (w, area) = (self.window, self.window * self.window);
        // The number of the strip that a row or column is in: before the last window, in it, or from
        // the other side of the image.
        let strip = |at: usize, (windows, shift): (usize, usize)| {
            let end = windows * w;
            usize::from(at + w >= end) + usize::from(shift > 0 && at + shift >= end)
        };
        let region = |window: usize, pixel: usize| {
            let row = window / across.0 * w + pixel / w;
            let column = window % across.0 * w + pixel % w;
            (strip(row, down), strip(column, across))
        };
        let value = |i: usize| {
            let (window, q, k) = (i / (area * area), i / area % area, i % area);
            if region(window, q) == region(window, k) { 0.0 } else { APART }
        };
        Tensor::from_fn([down.0 * across.0, 1, area, area], dtype, value)
    }

    /// Attention in windows: `[N, windows, w², D]` → the same.
    fn attend(&self, x: &Var, apart: Option<&Tensor>) -> Result<Var> {
        let [n, windows, area, width] = **x.shape() else { return Ok(x.clone()) };
        let joined = self.qkv.forward_at("qkv", x)?;
        let size = width / self.heads;
        let heads =
            |part: &Var| part.reshape([n, windows, area, self.heads, size])?.transpose(2, 3);
        let parts = joined.chunk(3, -1)?.iter().map(heads).collect::<Result<Vec<_>>>()?;
        let [q, k, v] = &parts[..] else { return Ok(joined) };
        let scores = q.scale(1.0 / (size as f64).sqrt())?.matmul(&k.transpose(-2, -1)?)?;
        let mut scores = scores.add(&self.bias(x)?)?;
        if let Some(apart) = apart {
            scores = scores.add(&Var::constant(&apart.to_device(x.device())?))?;
        }
        let y = scores.softmax(-1)?.matmul(v)?.transpose(2, 3)?.reshape(x.shape())?;
        self.proj.forward_at("proj", &y)
    }
}

impl Module for WindowAttention {
    fn forward(&self, x: &Var) -> Result<Var> {
        let [n, height, width, channels] = **x.shape() else {
            return Err(Error::shape("window_attention", "[N, H, W, D]", &[x.shape()]));
        };
        let w = self.window;
        let (down, across) = (height.div_ceil(w), width.div_ceil(w));
        let zero = Padding::Constant(0.0);
        let x = x.pad(1, 0, down * w - height, zero)?.pad(2, 0, across * w - width, zero)?;
        let shift = |windows: usize| if windows > 1 { self.shift } else { 0 };
        let (by_row, by_column) = (shift(down), shift(across));
        let (back, forth) = ([by_row as isize, by_column as isize], [1, 2]);
        let moved = x.roll(&back.map(|shift| -shift), &forth)?;
        let windows = moved.reshape([n, down, w, across, w, channels])?;
        let order = [0, 1, 3, 2, 4, 5];
        let windows = windows.permute(&order)?.reshape([n, down * across, w * w, channels])?;
        let shifted = by_row + by_column > 0;
        let apart = shifted.then(|| self.apart((down, by_row), (across, by_column), x.dtype()));
        let y = self.attend(&windows, apart.as_ref())?;
        let y = y.reshape([n, down, across, w, w, channels])?.permute(&order)?;
        let y = y.reshape([n, down * w, across * w, channels])?.roll(&back, &forth)?;
        y.narrow(1, 0, height)?.narrow(2, 0, width)
    }
}

#[cfg(test)]
mod tests {
    use engine::{LayerRecord, Shape, Tape};

    use super::*;
    use crate::QkvAttention;

    fn image(height: usize, width: usize) -> Tensor {
        let shape = [2, height, width, 4];
        Tensor::normal(shape, 0.0, 1.0, DType::F32, &mut Rng::new(1))
    }

    fn close(a: &Tensor, b: &Tensor) {
        let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
    }

    #[test]
    fn one_window_without_a_bias_is_attention_of_all_pixels() {
        for shift in [0, 1] {
            let mut layer = WindowAttention::new(4, 2, 3, shift, &mut Rng::new(0)).unwrap();
            *layer.relative_position_bias_table.value_mut() = Tensor::zeros([25, 2], DType::F32);
            let mut all = QkvAttention::new(4, 2, &mut Rng::new(2)).unwrap();
            *all.qkv.weight.value_mut() = layer.qkv.weight.value().clone();
            *all.proj.weight.value_mut() = layer.proj.weight.value().clone();
            let x = image(3, 3);
            let rows = x.reshape([2, 9, 4]).unwrap();
            close(&layer.predict(&x).unwrap(), &all.predict(&rows).unwrap());
        }
    }

    /// Shifted windows of a rolled image are what windows of the image are, but for those at the edge.
    #[test]
    fn shifted_windows_are_windows_of_the_rolled_image_away_from_the_edge() {
        let shifted = WindowAttention::new(4, 2, 2, 1, &mut Rng::new(0)).unwrap();
        let straight = WindowAttention::new(4, 2, 2, 0, &mut Rng::new(0)).unwrap();
        let x = image(6, 6);
        let middle = |t: &Tensor| t.narrow(1, 1, 4).unwrap().narrow(2, 1, 4).unwrap();
        let rolled = x.roll(&[-1, -1], &[1, 2]).unwrap();
        let y = straight.predict(&rolled).unwrap().roll(&[1, 1], &[1, 2]).unwrap();
        close(&middle(&shifted.predict(&x).unwrap()), &middle(&y));
    }

    #[test]
    fn the_image_does_not_wrap_around() {
        let layer = WindowAttention::new(4, 2, 2, 1, &mut Rng::new(0)).unwrap();
        let x = image(4, 4);
        let mut other = x.to_vec::<f32>().unwrap();
        // Row 3 of each example is changed, which shares a rolled window with row 0.
        for example in other.chunks_mut(64) {
            example[48..].iter_mut().for_each(|v| *v += 1.0);
        }
        let other = Tensor::from_vec(other, [2, 4, 4, 4]).unwrap();
        let [y, z] = [&x, &other].map(|x| layer.predict(x).unwrap().narrow(1, 0, 1).unwrap());
        close(&y, &z);
    }

    #[test]
    fn all_parameters_are_in_layer_records_and_the_bias_tells_pixels_apart() {
        let layer = WindowAttention::new(4, 2, 2, 1, &mut Rng::new(0)).unwrap();
        let tape = Tape::new();
        let y = layer.forward(&tape.input(image(3, 5))).unwrap();
        assert_eq!(*y.shape(), Shape::from([2, 3, 5, 4]));
        let mut records: Vec<LayerRecord> = Vec::new();
        let loss = y.square().unwrap().sum_all().unwrap();
        let grads = tape.backward_observed(&loss, &mut records).unwrap();
        assert_eq!((grads.len(), records.len()), (5, 3));
        // Row (Δrow + 1) · 3 + Δcolumn + 1: from pixel 0, keys 0, 1, 2, 3 are at (0, 0), (0, −1), …
        let rows = layer.pairs.to_vec::<i64>().unwrap();
        assert_eq!(rows[..4], [4, 3, 1, 0]);
        assert_eq!(rows[12..], [8, 7, 5, 4]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new = |heads, shift| WindowAttention::new(4, heads, 2, shift, &mut Rng::new(0));
        assert!(matches!(new(3, 0), Err(Error::Argument { name: "heads", .. })));
        assert!(matches!(new(2, 2), Err(Error::Argument { name: "shift", .. })));
        let flat = new(2, 0).unwrap().predict(&Tensor::zeros([2, 4], DType::F32));
        assert!(matches!(flat, Err(Error::Shape { op: "window_attention", .. })));
    }
}
