//! 07 · What a layer saw and what came back to it: the record, its rows, and the factors in them.
//!
//! `cargo run --example 07_layer_record`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::engine::Product;
use alcyon::prelude::*;

/// Convolution, batch norm, relu, linear: written out, so that every record can be found again.
struct Net {
    kernel: Parameter,
    kernel_bias: Parameter,
    scale: Parameter,
    shift: Parameter,
    readout: Parameter,
    readout_bias: Parameter,
}
parameters!(Net { kernel, kernel_bias, scale, shift, readout, readout_bias });

impl Net {
    fn new(rng: &mut Rng) -> Self {
        let mut random =
            |shape: Shape| Parameter::new(Tensor::normal(shape, 0.0, 0.3, DType::F64, rng));
        Self {
            kernel: random([4, 1, 3, 3].into()),
            kernel_bias: random([4].into()),
            scale: Parameter::new(Tensor::ones([4], DType::F64)),
            shift: Parameter::new(Tensor::zeros([4], DType::F64)),
            readout: random([3, 36].into()),
            readout_bias: random([3].into()),
        }
    }

    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let window = Window { kernel: (3, 3), stride: (2, 2), padding: (1, 1), dilation: (1, 1) };
        let geometry = Geometry { window, groups: 1 };
        let h =
            x.conv2d(&tape.bind(&self.kernel), Some(&tape.bind(&self.kernel_bias)), geometry)?;
        let (h, _, _) = h.batch_norm(&tape.bind(&self.scale), &tape.bind(&self.shift), 1e-5)?;
        h.relu()?
            .flatten(1)?
            .linear(&tape.bind(&self.readout), Some(&tape.bind(&self.readout_bias)))
    }
}

fn norm(t: &Tensor) -> Result<f64> {
    Ok(t.to_f64_vec()?.iter().map(|x| x * x).sum::<f64>().sqrt())
}

/// At most six entries.
fn list(values: &[f64]) -> String {
    let shown: Vec<String> = values.iter().take(6).map(|x| format!("{x:.4}")).collect();
    format!("{}{}", shown.join(" "), if values.len() > 6 { " …" } else { "" })
}

fn main() -> Result<()> {
    let mut rng = Rng::new(0);
    let net = Net::new(&mut rng);
    let x = Tensor::normal([8, 1, 6, 6], 0.0, 1.0, DType::F64, &mut rng);
    let labels = Tensor::random_indices([8], 3, &mut rng)?;

    let tape = Tape::training(0);
    let logits = net.forward(&tape.input(x))?;
    let loss = CrossEntropy::new(&labels);
    let nll = loss.nll(&logits)?;
    println!(
        "The tape. A layer is one record: its weight, its input and its output can be seen.\n"
    );
    println!("{}\n", tape.table(Some(&net)));

    // A `Vec<LayerRecord>` is an observer that keeps everything; optimizers keep only sums.
    let mut records: Vec<LayerRecord> = Vec::new();
    let grads = tape.backward_observed(&nll, &mut records)?;
    let n = loss.terms() as f64;
    println!("Going backward, each layer was handed out. N = {n} terms in the mean loss.");

    let names = net.parameters();
    for record in &records {
        let weight = names.iter().find(|(_, p)| p.id() == record.weight);
        let Some((name, weight)) = weight else { continue };
        println!("\n{name}: {:?}", record.layer);
        println!(
            "  input        {:<16} norm {:.4}",
            record.input.shape().to_string(),
            norm(&record.input)?
        );
        println!(
            "  output grad  {:<16} norm {:.4}",
            record.output_grad.shape().to_string(),
            norm(&record.output_grad)?
        );

        // The record as rows: R terms whose product is the weight gradient.
        for rows in record.rows()? {
            let r = rows.a.shape()[0] as f64;
            println!(
                "  rows         a {} · g {} ({:?})",
                rows.a.shape(),
                rows.g.shape(),
                rows.product
            );

            // A = Σ a aᵀ / R, G = N Σ g gᵀ: g carries 1/N, so this is the mean of d dᵀ, d = N g.
            let a = rows.a.transpose(0, 1)?.matmul(&rows.a)?.scale(1.0 / r)?;
            let g = rows.g.transpose(0, 1)?.matmul(&rows.g)?.scale(n)?;
            let diagonal = |m: &Tensor| -> Result<Vec<f64>> {
                let width = m.shape()[0];
                Ok(m.to_f64_vec()?.into_iter().step_by(width + 1).collect())
            };
            println!(
                "  A            {:<16} norm {:.4}  diagonal {}",
                a.shape().to_string(),
                norm(&a)?,
                list(&diagonal(&a)?)
            );
            println!(
                "  G            {:<16} norm {:.4}  diagonal {}",
                g.shape().to_string(),
                norm(&g)?,
                list(&diagonal(&g)?)
            );

            // The identity that makes it a record of *this* layer.
            let from_rows = rows.gradient()?;
            if let (Some(grad), Product::Outer) = (grads.of(weight), rows.product) {
                let width = weight.value().numel() / weight.value().shape()[0];
                let rows_only = from_rows.narrow(1, 0, width)?.reshape(weight.value().shape())?;
                println!("  gᵀa − gradient of the weight: {:.1e}", norm(&rows_only.sub(grad)?)?);
            } else if let Some(grad) = grads.of(weight) {
                let scale = from_rows.narrow(0, 0, 1)?.reshape(weight.value().shape())?;
                println!("  Σ g∘a − gradient of the scale: {:.1e}", norm(&scale.sub(grad)?)?);
            }
        }
    }
    println!(
        "\nAdaFisher keeps the diagonals of A and G; K-FAC keeps A and G; nothing else is needed."
    );
    Ok(())
}
