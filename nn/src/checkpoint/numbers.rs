//! Numbers as a safetensors file has them: little-endian.

use engine::{DType, Error, Result, Shape, Tensor, room};
use safetensors::tensor::{Dtype, TensorView};

/// A tensor that was read, and whether it has another dtype in the file.
pub(super) struct Taken {
    pub(super) tensor: Tensor,
    pub(super) converted: bool,
}

macro_rules! little_endian {
    ($($dtype:ident => $t:ty),*) => {
        /// # Errors
        /// [`Error::OutOfMemory`]; [`Error::DType`] for a dtype that the format does not have.
        pub(super) fn to_bytes(tensor: &Tensor) -> Result<(Dtype, Vec<u8>)> {
            match tensor.dtype() {
                $(DType::$dtype => {
                    let numbers = tensor.to_vec::<$t>()?;
                    let mut bytes = room::zeros("checkpoint", size_of_val(&*numbers))?;
                    let places = bytes.as_chunks_mut().0.iter_mut();
                    places.zip(&numbers).for_each(|(place, x)| *place = x.to_le_bytes());
                    Ok((Dtype::$dtype, bytes))
                })*
                got => {
                    let expected = "a dtype of the safetensors format".into();
                    Err(Error::DType { op: "checkpoint", expected, got })
                }
            }
        }

        /// None for what tensors cannot hold: another dtype, too many axes, a number above i64's.
        ///
        /// # Errors
        /// [`Error::OutOfMemory`].
        pub(super) fn from_bytes(view: &TensorView<'_>) -> Result<Option<Taken>> {
            let Ok(shape) = Shape::new(view.shape()) else { return Ok(None) };
            let bytes = view.data();
            let (tensor, converted) = match view.dtype() {
                $(Dtype::$dtype => {
                    let numbers = bytes.as_chunks().0.iter().map(|&b| <$t>::from_le_bytes(b));
                    (Some(room::collect("checkpoint", numbers).and_then(|n| Tensor::from_vec(n, shape))), false)
                })*
                other => {
                    let whole = integers(other, bytes)?;
                    (whole.map(|numbers| Tensor::from_vec(numbers, shape)), true)
                }
            };
            Ok(tensor.transpose()?.map(|tensor| Taken { tensor, converted }))
        }
    };
}
little_endian! { F32 => f32, F64 => f64, I64 => i64, F16 => half::f16, BF16 => half::bf16 }

/// Integers of any size and booleans as i64; none if they are not, or if one is above i64's.
fn integers(dtype: Dtype, bytes: &[u8]) -> Result<Option<Vec<i64>>> {
    fn each<const N: usize>(
        bytes: &[u8],
        number: impl Fn([u8; N]) -> i64,
    ) -> Result<Option<Vec<i64>>> {
        let numbers = bytes.as_chunks::<N>().0.iter().map(|&b| number(b));
        room::collect("checkpoint", numbers).map(Some)
    }
    match dtype {
        Dtype::BOOL | Dtype::U8 => each(bytes, |[b]| i64::from(b)),
        Dtype::I8 => each(bytes, |b| i64::from(i8::from_le_bytes(b))),
        Dtype::I16 => each(bytes, |b| i64::from(i16::from_le_bytes(b))),
        Dtype::U16 => each(bytes, |b| i64::from(u16::from_le_bytes(b))),
        Dtype::I32 => each(bytes, |b| i64::from(i32::from_le_bytes(b))),
        Dtype::U32 => each(bytes, |b| i64::from(u32::from_le_bytes(b))),
        Dtype::U64 if bytes.as_chunks().0.iter().any(|&b| i64::from_le_bytes(b) < 0) => Ok(None),
        Dtype::U64 => each(bytes, i64::from_le_bytes),
        _ => Ok(None),
    }
}
