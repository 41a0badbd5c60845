//! `Module`: something that owns parameters and maps a value on a tape to another.

use engine::{DType, Parameters, Result, Tape, Tensor, Var};

/// A layer or a model.
///
/// `forward` reads parameters and never writes them; the tape it runs on is its input's. So there
/// is no training flag to forget: [`Tape::is_training`] says which mode a *pass* is in.
///
/// # Example
/// ```
/// use alcyon_nn::{Linear, Module};
/// use engine::{Result, Rng, Tape, Tensor, Var, parameters};
/// /// x + relu(W x + b)
/// struct Residual { inner: Linear }
/// parameters!(Residual { inner });
/// impl Module for Residual {
///     fn forward(&self, x: &Var) -> Result<Var> { x.add(&self.inner.forward(x)?.relu()?) }
/// }
/// let block = Residual { inner: Linear::new(2, 2, &mut Rng::new(0)) };
/// let y = block.predict(&Tensor::zeros([3, 2], engine::DType::F32))?;
/// assert_eq!(y.shape(), &engine::Shape::from([3, 2]));
/// # Ok::<(), engine::Error>(())
/// ```
pub trait Module: Parameters + Send + Sync {
    /// The output for an input. Parameters are bound to the input's tape.
    ///
    /// # Errors
    /// Whatever the ops find; containers say in which layer.
    fn forward(&self, x: &Var) -> Result<Var>;

    /// [`Module::forward`], in which an error says that it came from the member of this name.
    ///
    /// # Errors
    /// As [`Module::forward`], located.
    fn forward_at(&self, name: &str, x: &Var) -> Result<Var> {
        self.forward(x).map_err(|error| error.in_layer(name))
    }

    /// The output in evaluation mode, with nothing recorded.
    ///
    /// # Errors
    /// As [`Module::forward`].
    fn predict(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward(&Tape::off().input(x.clone()))?.value())
    }

    /// The same module with floating point parameters and buffers in another dtype.
    ///
    /// # Errors
    /// None on the CPU; casting can fail on devices.
    fn to_dtype(mut self, dtype: DType) -> Result<Self>
    where
        Self: Sized,
    {
        let cast = |value: &mut Tensor| -> Result<()> {
            if value.dtype().is_float() {
                *value = value.to_dtype(dtype)?;
            }
            Ok(())
        };
        for (_, parameter) in self.parameters_mut() {
            cast(parameter.value_mut())?;
        }
        for (_, buffer) in self.buffers_mut() {
            cast(buffer.value_mut())?;
        }
        Ok(self)
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn forward(&self, x: &Var) -> Result<Var> {
        (**self).forward(x)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Rng, Shape};

    use super::*;
    use crate::{BatchNorm2d, Linear};

    #[test]
    fn casting_a_module_keeps_identities_and_integers() {
        let norm = BatchNorm2d::new(2);
        let ids = |m: &BatchNorm2d| m.parameters().iter().map(|(_, p)| p.id()).collect::<Vec<_>>();
        let before = ids(&norm);
        let norm = norm.to_dtype(DType::F64).unwrap();
        assert_eq!(ids(&norm), before);
        assert!(norm.parameters().iter().all(|(_, p)| p.value().dtype() == DType::F64));
        let dtypes: Vec<DType> = norm.buffers().iter().map(|(_, b)| b.value().dtype()).collect();
        assert_eq!(dtypes, [DType::F64, DType::F64, DType::I64]);
    }

    #[test]
    fn predicting_equals_forward_and_an_input_of_another_dtype_is_refused() {
        let model = Linear::new(3, 2, &mut Rng::new(0));
        let x = Tensor::ones([4, 3], DType::F32);
        let y = model.predict(&x).unwrap();
        let tape = Tape::new();
        let taped = model.forward(&tape.input(x)).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), taped.to_vec::<f32>().unwrap());
        assert_eq!(*y.shape(), Shape::from([4, 2]));
        let wide = Tensor::ones([4, 3], DType::F64);
        assert!(matches!(model.predict(&wide), Err(Error::DType { op: "linear", .. })));
    }
}
