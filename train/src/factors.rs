//! Curvature factors as pictures see them: read from an optimizer's state, and made small.
//!
//! AdaFisher keeps two vectors a layer, H of the inputs and S of the output gradients; K-FAC two
//! matrices, A and G. Both stand in the state under the weight's path.

use engine::Result;
use optim::State;
use serde::{Deserialize, Serialize};

/// Entries that a vector is pooled to, and rows and columns that a matrix is.
pub(crate) const WIDTH: usize = 48;

/// A factor of one layer at one step: `rows` × (values / rows) means of neighbouring entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Factor {
    /// Steps taken.
    pub step: u64,
    /// The weight's path.
    pub path: String,
    /// H, S, A or G.
    pub name: String,
    /// 1 for a vector.
    pub rows: usize,
    /// The size before pooling: of a vector, or of a side of the matrix.
    pub size: usize,
    /// Row by row. Of a matrix, the absolute values.
    pub values: Vec<f32>,
}

/// The factors in a state; none of an optimizer that keeps none.
///
/// # Errors
/// None on the CPU.
pub fn of_state(state: &State, step: u64) -> Result<Vec<Factor>> {
    let mut factors = Vec::new();
    for (key, tensor) in &state.tensors {
        let Some((path, kind)) = key.rsplit_once('/') else { continue };
        let square = tensor.numel().isqrt();
        let dense = state.numbers.get(&format!("{path}/form")).is_some_and(|f| f == "dense");
        let (name, rows, size) = match kind {
            "h" => ("H", 1, tensor.numel()),
            "s" => ("S", 1, tensor.numel()),
            "a" if dense && square * square == tensor.numel() => ("A", square, square),
            "g" if dense && square * square == tensor.numel() => ("G", square, square),
            _ => continue,
        };
        if tensor.numel() == 0 {
            continue;
        }
        let (pooled, values) = pool(&tensor.to_f64_vec()?, rows);
        let (path, name) = (path.to_owned(), name.to_owned());
        factors.push(Factor { step, path, name, rows: pooled, size, values });
    }
    Ok(factors)
}

/// Means of |entries| over a grid of at most [`WIDTH`] a side; and its rows.
fn pool(values: &[f64], rows: usize) -> (usize, Vec<f32>) {
    let columns = values.len() / rows;
    let (high, wide) = (rows.min(WIDTH), columns.min(WIDTH));
    let cell = |i: usize, j: usize| {
        let range = |k: usize, of: usize, n: usize| k * n / of..(k + 1) * n / of;
        let (mut sum, mut count) = (0.0, 0.0);
        for row in range(i, high, rows) {
            for column in range(j, wide, columns) {
                sum += values[row * columns + column].abs();
                count += 1.0;
            }
        }
        (sum / count) as f32
    };
    (high, (0..high * wide).map(|at| cell(at / wide, at % wide)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_keeps_the_mean_and_small_things_as_they_are() {
        assert_eq!(pool(&[1.0, -2.0, 3.0], 1), (1, vec![1.0, 2.0, 3.0]));
        let ramp: Vec<f64> = (0..96).map(f64::from).collect();
        let (rows, pooled) = pool(&ramp, 1);
        assert_eq!((rows, pooled.len(), pooled[0], pooled[47]), (1, 48, 0.5, 94.5));
        let matrix: Vec<f64> =
            (0..100 * 100).map(|i| f64::from(u8::from(i / 100 == i % 100))).collect();
        let (rows, pooled) = pool(&matrix, 100);
        assert_eq!((rows, pooled.len()), (48, 48 * 48));
        assert!(pooled[1] == 0.0 && pooled[0] > 0.3, "the diagonal stays one");
    }
}
