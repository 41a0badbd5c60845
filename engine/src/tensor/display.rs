//! Printing: nested brackets, at most six entries an axis.

use std::fmt;

use super::{History, Tensor};
use crate::{DType, Result};

impl<H: History> fmt::Display for Tensor<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(4);
        let cells: Result<Vec<String>> = if self.dtype() == DType::I64 {
            self.to_vec::<i64>().map(|all| all.iter().map(i64::to_string).collect())
        } else {
            self.to_f64_vec().map(|all| all.iter().map(|x| format!("{x:.precision$}")).collect())
        };
        match cells {
            Ok(cells) => {
                let width = cells.iter().map(String::len).max().unwrap_or(0);
                write_axis(f, &cells, self.shape(), width, 1)?;
            }
            Err(_) => write!(f, "(no numbers)")?,
        }
        write!(f, " {} {}", self.dtype(), self.shape())
    }
}

/// How many entries are shown at each end of a long axis.
const EDGE: usize = 3;

fn write_axis(
    f: &mut fmt::Formatter<'_>,
    cells: &[String],
    dims: &[usize],
    width: usize,
    depth: usize,
) -> fmt::Result {
    let Some((&n, inner)) = dims.split_first() else {
        return write!(f, "{:>width$}", cells[0]);
    };
    let step: usize = inner.iter().product();
    write!(f, "[")?;
    for i in 0..n {
        if n > 2 * EDGE && (EDGE..n - EDGE).contains(&i) {
            if i == EDGE {
                write!(f, ", …")?;
            }
            continue;
        }
        if i > 0 {
            write!(f, ",")?;
            if inner.is_empty() {
                write!(f, " ")?;
            } else {
                write!(f, "\n{:depth$}", "")?;
            }
        }
        write_axis(f, &cells[i * step..(i + 1) * step], inner, width, depth + 1)?;
    }
    write!(f, "]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_printed_row_by_row_and_a_long_axis_is_shortened() {
        let m = Tensor::from_slice(&[1.0_f32, 2.5, -3.0, 4.0], [2, 2]).unwrap();
        assert_eq!(format!("{m:.1}"), "[[ 1.0,  2.5],\n [-3.0,  4.0]] f32 [2, 2]");
        let v = Tensor::arange(9, DType::I64);
        assert_eq!(v.to_string(), "[0, 1, 2, …, 6, 7, 8] i64 [9]");
        assert_eq!(Tensor::scalar(2.0, DType::F64).to_string(), "2.0000 f64 []");
    }
}
