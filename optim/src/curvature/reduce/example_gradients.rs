//! The gradient of every example with respect to one layer, from its record.

use engine::{LayerRecord, Product, Result, Rows};
use kernels::gemm::{Matrix, gemm};

/// The gradients of the weight, then of the bias, of each example of a record: `[examples, P]` and their
/// number.
pub(crate) fn example_gradients(record: &LayerRecord) -> Result<(Vec<f64>, usize)> {
    let groups = record.rows()?;
    let (mut all, examples) = (Vec::new(), groups.first().map_or(0, |rows| rows.examples));
    let groups = groups.iter().map(|rows| gradients(rows, record.bias.is_some()));
    let groups = groups.collect::<Result<Vec<_>>>()?;
    for example in 0..examples {
        groups.iter().for_each(|group| all.extend_from_slice(&group[example].0));
        groups.iter().for_each(|group| all.extend_from_slice(&group[example].1));
    }
    Ok((all, examples))
}

/// The gradient of the weight and of the bias for each example of one group of rows.
pub(crate) fn gradients(rows: &Rows, has_bias: bool) -> Result<Vec<(Vec<f64>, Vec<f64>)>> {
    let (a, g) = (rows.a.to_f64_vec()?, rows.g.to_f64_vec()?);
    let n = if rows.a.rank() > 1 { rows.a.shape()[1] } else { 1 };
    let m = rows.g.shape()[1];
    let positions = rows.g.shape()[0].checked_div(rows.examples).unwrap_or(0);
    let of = |e: usize| {
        let (a, g) = (&a[e * positions * n..][..positions * n], &g[e * positions * m..]);
        let g = &g[..positions * m];
        match rows.product {
            Product::Outer => split(&outer(g, m, a, n), n, has_bias),
            Product::Transposed => (outer(a, n, g, m), Vec::new()),
            Product::Hadamard => {
                let mut both = (vec![0.0; m], vec![0.0; if has_bias { m } else { 0 }]);
                for (a, g) in a.chunks_exact(m.max(1)).zip(g.chunks_exact(m.max(1))) {
                    both.0.iter_mut().zip(a.iter().zip(g)).for_each(|(x, (a, g))| *x += a * g);
                    both.1.iter_mut().zip(g).for_each(|(x, g)| *x += g);
                }
                both
            }
            Product::Lookup { vocabulary } => {
                let mut table = vec![0.0; vocabulary * m];
                for (&index, g) in a.iter().zip(g.chunks_exact(m.max(1))) {
                    let row = &mut table[index as usize * m..][..m];
                    row.iter_mut().zip(g).for_each(|(x, g)| *x += g);
                }
                (table, Vec::new())
            }
        }
    };
    Ok((0..rows.examples).map(of).collect())
}

/// [W | b] taken apart.
fn split(joint: &[f64], width: usize, has_bias: bool) -> (Vec<f64>, Vec<f64>) {
    let mut out = (Vec::with_capacity(joint.len()), Vec::new());
    for row in joint.chunks_exact(width.max(1)) {
        let (weight, bias) = row.split_at(width - usize::from(has_bias));
        out.0.extend_from_slice(weight);
        out.1.extend_from_slice(bias);
    }
    out
}

/// xᵀy: the sum over positions.
fn outer(x: &[f64], width: usize, y: &[f64], other: usize) -> Vec<f64> {
    let positions = x.len() / width.max(1);
    let mut out = vec![0.0; width * other];
    let (x, y) = (Matrix::new(x, positions, width), Matrix::new(y, positions, other));
    gemm(1.0, x.t(), y, 0.0, &mut out);
    out
}
