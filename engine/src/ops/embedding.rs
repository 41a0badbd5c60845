//! embedding: y\[..\] = W\[index\[..\]\], a row for every index.   dW\[v\] = Σ g over all places with v.

use super::scatter_add::check_indices;
use crate::op::{Keeps, Op, Saved, Site, expect_dtype, same_float, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::Layer;
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct Embedding;

impl<H: History> Tensor<H> {
    /// Row `i` of a table for every index `i` in this tensor: one record on the tape, the layer
    /// [`Layer::Lookup`].
    ///
    /// # Shape
    /// indices: `[..]` (i64) · weight: `[V, D]` · result: `[.., D]`
    ///
    /// # Gradient
    /// dW\[v\] = Σ of g over all places where the index is v: rows that are not used get zeros.
    ///
    /// # Errors
    /// [`Error::Index`] when an index is not in `0..V`, [`Error::DType`] when the indices are not
    /// i64, [`Error::Shape`] when the weight is not a matrix.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let table = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], [2, 2])?;
    /// let words = Tensor::from_slice(&[1_i64, 0, 1], [3])?;
    /// assert_eq!(words.embedding(&table)?.to_vec::<f32>()?, [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn embedding(&self, weight: &Self) -> Result<Self> {
        H::apply(Embedding, &[self, weight])
    }
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        match **inputs[1] {
            [_, width] => Shape::new(&[&**inputs[0], &[width]].concat()),
            _ => Err(Error::shape("embedding", "indices [..], weight [V, D]", inputs)),
        }
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        expect_dtype("embedding", inputs[0], DType::I64)?;
        same_float("embedding", &inputs[1..])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (indices, table) = (inputs[0].slice::<i64>(), inputs[1].shape());
        check_indices("embedding", indices, table[0])?;
        for_float!(inputs[1].dtype(), T => {
            let weight = inputs[1].slice::<T>();
            kernels::index::gather_axis(
                weight, 1, table[0], table[1], indices, indices.len(), out.slice_mut(),
            );
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, indices, table) = (inputs[0].gpu(), inputs[0].slice(), inputs[1].shape());
        let (sizes, y) = ((1, table[0], table[1]), out.slice_mut());
        kernels::cuda::index::check(gpu, "embedding", indices, table[0])?;
        kernels::cuda::index::gather(gpu, inputs[1].slice(), sizes, indices, &y)?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (indices, w) = (&at.inputs[0], &at.inputs[1]);
        let (n, [vocabulary, width]) = (indices.numel(), [w.shape()[0], w.shape()[1]]);
        let d_w = at.want(1, || {
            at.grad.reshape([n, width])?.scatter_add(0, &indices.reshape([n])?, vocabulary)
        })?;
        Ok(vec![None, d_w])
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::Lookup)
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "embedding",
    samples: || {
        let sample = |shape: Shape, indices: &[f64], table: [usize; 2]| {
            let indices = Tensor::from_fn(shape, DType::I64, |i| indices[i]);
            Sample::new(vec![indices, sample_input(table)], |x| x[0].embedding(&x[1]))
        };
        vec![
            sample([4].into(), &[2.0, 0.0, 2.0, 3.0], [4, 3]),
            sample([2, 3].into(), &[1.0, 1.0, 0.0, 1.0, 4.0, 0.0], [5, 2]),
            sample(().into(), &[1.0], [2, 3]),
            sample([0].into(), &[], [2, 3]),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_outside_of_the_table_is_named_with_its_place() {
        let table = Tensor::zeros([3, 2], DType::F32);
        for wrong in [3, -1] {
            let indices = Tensor::from_slice(&[0_i64, 2, wrong, 1], [2, 2]).unwrap();
            match indices.embedding(&table) {
                Err(Error::Index { op: "embedding", index, at: 2, bound: 3 }) => {
                    assert_eq!(index, wrong);
                }
                other => panic!("{other:?}"),
            }
        }
        let indices = Tensor::zeros([2], DType::F32);
        assert!(matches!(indices.embedding(&table), Err(Error::DType { .. })));
        let (one, row) = (Tensor::zeros([1], DType::I64), Tensor::zeros([3], DType::F32));
        assert!(matches!(one.embedding(&row), Err(Error::Shape { .. })));
    }
}
