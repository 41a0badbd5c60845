//! The norm of every example's own gradient, from a layer's rows, mostly without forming it.
//!
//! The rows of one example, p = 1 … P, make the gradient M = Σₚ gₚ aₚᵀ, so
//!
//! ```text
//! ‖M‖² = Σ over p, q of (gₚ·g_q)(aₚ·a_q)      P = 1: ‖g‖² ‖a‖²   Goodfellow 2015
//! ```
//!
//! a sum over the product of two P × P grams, or else over the entries of M, whichever costs less. An
//! index aₚ is a one-hot row: aₚ·a_q is 1 where they are equal. For norms M = Σₚ gₚ ∘ aₚ itself is small.

use super::{LayerRecord, Product, Rows};
use crate::tensor::Tensor;
use crate::{Error, Result};

impl LayerRecord {
    /// For every example the norm of what it adds to the gradient of the weight and of the bias that
    /// the rows describe. Batch norm's moments count as constants.
    ///
    /// # Shape
    /// `[N]`
    ///
    /// # Units
    /// Those of `output_grad`: for a mean loss the norm of 1/N of the gradient of the example's own
    /// loss. Over several layers the squares add up; over several uses of *one* weight the gradients
    /// do, before their norm is taken.
    ///
    /// # Errors
    /// [`Error::NoKernel`] on a device without the kernels.
    ///
    /// # Source
    /// Goodfellow 2015 (one row per example); Li et al. 2021 (the gram form for shared weights).
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, LayerRecord, Parameter, Tape, Tensor};
    /// let weight = Parameter::new(Tensor::ones([1, 2], DType::F64));
    /// let tape = Tape::new();
    /// let x = tape.input(Tensor::from_slice(&[3.0_f64, 4.0, 0.0, 2.0], [2, 2])?);
    /// let loss = x.linear(&tape.bind(&weight), None)?.sum_all()?;
    /// let mut records: Vec<LayerRecord> = Vec::new();
    /// tape.backward_observed(&loss, &mut records)?;
    /// assert_eq!(records[0].example_gradient_norms()?.to_vec::<f64>()?, [5.0, 2.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn example_gradient_norms(&self) -> Result<Tensor> {
        let mut total: Option<Tensor> = None;
        for rows in self.rows()? {
            let squares = rows.example_squares(self.bias.is_some())?;
            total = Some(match total {
                Some(sum) => sum.add(&squares)?,
                None => squares,
            });
        }
        let none = || Error::shape("example_gradient_norms", "a layer with rows", &[]);
        // A sum of products may round to less than nothing.
        total.ok_or_else(none)?.relu()?.sqrt()
    }
}

impl Rows {
    /// ‖M‖² of every example: `[N]`.
    fn example_squares(&self, bias: bool) -> Result<Tensor> {
        let (n, width) = (self.examples, self.g.shape()[1]);
        let positions = self.g.shape()[0].checked_div(n).unwrap_or(0);
        let dtype = self.g.dtype();
        let squares = |x: &Tensor| x.square()?.sum(&[1]);
        match self.product {
            Product::Hadamard => {
                let gathered = |x: &Tensor| x.reshape([n, positions, width])?.sum(&[1]);
                let scale = squares(&gathered(&self.g.mul(&self.a)?)?)?;
                if bias { scale.add(&squares(&gathered(&self.g)?)?) } else { Ok(scale) }
            }
            Product::Lookup { .. } if positions == 1 => squares(&self.g),
            Product::Outer | Product::Transposed if positions == 1 => {
                squares(&self.g)?.mul(&squares(&self.a)?)
            }
            _ => {
                let mut all = Vec::with_capacity(n);
                for i in 0..n {
                    let part = |x: &Tensor| x.narrow(0, i * positions, positions);
                    all.push(self.one_square(&part(&self.a)?, &part(&self.g)?)?);
                }
                Ok(Tensor::from_fn([n], dtype, |i| all[i]))
            }
        }
    }

    /// ‖M‖² of one example, from its rows.
    fn one_square(&self, a: &Tensor, g: &Tensor) -> Result<f64> {
        let gram = |x: &Tensor| x.matmul(&x.transpose(0, 1)?);
        let positions = g.shape()[0];
        let squared = match self.product {
            Product::Lookup { .. } => {
                let same = a.reshape([positions, 1])?.equal(&a.reshape([1, positions])?)?;
                same.select(&gram(g)?, &Tensor::scalar(0.0, g.dtype()))?
            }
            _ => {
                let (n, m) = (a.shape()[1], g.shape()[1]);
                if positions * (n + m) < n * m {
                    gram(a)?.mul(&gram(g)?)?
                } else {
                    g.transpose(0, 1)?.matmul(a)?.square()?
                }
            }
        };
        squared.sum_all()?.item()
    }
}

#[cfg(test)]
mod tests {
    use crate::op::sample_input;
    use crate::{DType, Geometry, LayerRecord, Parameter, Result, Tape, Tensor, Var, Window};

    type Forward = fn(&Var, &[Var]) -> Result<Var>;

    const GEOMETRY: Geometry = Geometry {
        window: Window { kernel: (2, 2), stride: (1, 2), padding: (1, 0), dilation: (1, 1) },
        groups: 2,
    };

    /// ½ Σ y² of some examples: its gradient differs from example to example.
    fn records(x: &Tensor, forward: Forward, shapes: &[&[usize]]) -> (Vec<LayerRecord>, f64) {
        let tape = Tape::new();
        let params: Vec<Parameter> = shapes
            .iter()
            .map(|shape| Parameter::new(sample_input(crate::Shape::new(shape).unwrap())))
            .collect();
        let bound: Vec<Var> = params.iter().map(|p| tape.bind(p)).collect();
        let y = forward(&tape.input(x.clone()), &bound).unwrap();
        let loss = y.square().unwrap().sum_all().unwrap().scale(0.5).unwrap();
        let mut records: Vec<LayerRecord> = Vec::new();
        let grads = tape.backward_observed(&loss, &mut records).unwrap();
        let square = |p: &Parameter| -> f64 {
            grads.of(p).unwrap().to_f64_vec().unwrap().iter().map(|g| g * g).sum()
        };
        let covered =
            |p: &&Parameter| records.iter().any(|r| r.weight == p.id() || r.bias == Some(p.id()));
        let total = params.iter().filter(covered).map(square).sum::<f64>().sqrt();
        (records, total)
    }

    #[test]
    fn they_are_the_norms_of_the_gradients_of_one_example_at_a_time() {
        let tokens = |shape: [usize; 2]| Tensor::from_fn(shape, DType::I64, |i| (i * i % 4) as f64);
        let cases: [(&str, Tensor, Forward, &[&[usize]]); 12] = [
            ("dense", sample_input([3, 4]), |x, p| x.linear(&p[0], Some(&p[1])), &[&[2, 4], &[2]]),
            ("without bias", sample_input([3, 4]), |x, p| x.linear(&p[0], None), &[&[2, 4]]),
            // Few positions, so that the gram is cheaper; then many.
            (
                "tokens",
                sample_input([3, 2, 9]),
                |x, p| x.linear(&p[0], Some(&p[1])),
                &[&[8, 9], &[8]],
            ),
            ("long", sample_input([2, 7, 2]), |x, p| x.linear(&p[0], None), &[&[3, 2]]),
            (
                "conv2d",
                sample_input([3, 4, 3, 4]),
                |x, p| x.conv2d(&p[0], Some(&p[1]), GEOMETRY),
                &[&[2, 2, 2, 2], &[2]],
            ),
            (
                "transposed",
                sample_input([3, 4, 3, 2]),
                |x, p| x.conv_transpose2d(&p[0], None, GEOMETRY, (0, 1)),
                &[&[4, 3, 2, 2]],
            ),
            ("embedding", tokens([3, 5]), |x, p| x.embedding(&p[0]), &[&[4, 3]]),
            ("one index", tokens([3, 1]), |x, p| x.embedding(&p[0]), &[&[4, 3]]),
            (
                "layer norm",
                sample_input([3, 2, 4]),
                |x, p| x.layer_norm(Some(&p[0]), Some(&p[1]), 0.1),
                &[&[4], &[4]],
            ),
            ("rms norm", sample_input([3, 2, 4]), |x, p| x.rms_norm(Some(&p[0]), 0.1), &[&[4]]),
            (
                "group norm",
                sample_input([3, 4, 3]),
                |x, p| x.group_norm(2, Some(&p[0]), Some(&p[1]), 0.1),
                &[&[4], &[4]],
            ),
            (
                "conv1d",
                sample_input([3, 2, 5]),
                |x, p| {
                    let window = Window { padding: (0, 1), ..Window::new((1, 3)) };
                    x.conv1d(&p[0], Some(&p[1]), Geometry { window, groups: 1 })
                },
                &[&[2, 2, 3], &[2]],
            ),
        ];
        for (name, x, forward, shapes) in cases {
            let (all, _) = records(&x, forward, shapes);
            let [record] = &all[..] else { panic!("{name}: one layer, one record") };
            let norms = record.example_gradient_norms().unwrap().to_f64_vec().unwrap();
            assert_eq!(norms.len(), x.shape()[0], "{name}");
            for (i, norm) in norms.iter().enumerate() {
                let (_, alone) = records(&x.narrow(0, i, 1).unwrap(), forward, shapes);
                assert!((norm - alone).abs() <= 1e-12 * alone, "{name}: {norm} and {alone}");
            }
        }
    }
}
