//! `[N, C, H, W]` → `[N, C·H·W]`.

use engine::{Result, Var, parameters};

use crate::Module;

/// All axes after the first made one: what stands between convolutions and a linear layer.
///
/// # Shape
/// x: `[N, ..]` · result: `[N, product of the rest]`
#[derive(Debug, Clone, Copy, Default)]
pub struct Flatten;
parameters!(Flatten {});

impl Module for Flatten {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.flatten(1)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Error, Shape, Tensor};

    use super::*;

    #[test]
    fn the_order_of_elements_stays_and_a_vector_has_nothing_to_flatten() {
        let x = Tensor::arange(12, DType::F32).reshape([2, 3, 2]).unwrap();
        let y = Flatten.predict(&x).unwrap();
        assert_eq!(*y.shape(), Shape::from([2, 6]));
        assert_eq!(y.to_vec::<f32>().unwrap(), x.to_vec::<f32>().unwrap());
        let vector = Tensor::arange(3, DType::F32);
        assert!(matches!(Flatten.predict(&vector), Err(Error::Axis { .. })));
    }
}
