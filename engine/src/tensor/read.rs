//! Getting numbers out, and writing them in place.

use std::sync::Arc;

use super::{History, Plain, Tensor};
use crate::dtype::for_element;
use crate::storage::CpuStorage;
use crate::{DType, Device, Element, Error, Result, Storage, room};

impl<H: History> Tensor<H> {
    /// The numbers alone, as a plain tensor that shares the memory.
    #[must_use]
    pub fn value(&self) -> Tensor {
        self.with_history(Plain)
    }

    /// A copy of the elements in row-major order. From a GPU: the host waits, and the read is
    /// counted (`Gpu::reads`).
    ///
    /// # Errors
    /// [`Error::DType`] when `T` is not the tensor's dtype, [`Error::NoKernel`] when there are no
    /// numbers (meta device), [`Error::OutOfMemory`] when there is no memory for the copy.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        #[cfg(feature = "cuda")]
        if self.storage().gpu().is_some() {
            return self.to_vec_from_cuda();
        }
        let cpu = self.cpu("to_vec")?;
        check_dtype::<T>("to_vec", self.dtype())?;
        let mut out = room::zeros::<T>("to_vec", self.numel())?;
        self.copy_into(cpu, &mut out);
        Ok(out)
    }

    /// A copy of the elements as `f64`, whatever the dtype: exact but for integers beyond 2⁵³, which are
    /// rounded ([`Tensor::to_vec`] has them).
    ///
    /// # Errors
    /// [`Error::NoKernel`] when there are no numbers (meta device), [`Error::OutOfMemory`].
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        for_element!(self.dtype(), T => {
            room::collect("to_f64_vec", self.to_vec::<T>()?.into_iter().map(Element::to_f64))
        })
    }

    /// The only element of a one-element tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are more or none; [`Error::Inexact`] for an integer that `f64` cannot
    /// hold.
    pub fn item(&self) -> Result<f64> {
        if self.numel() != 1 {
            return Err(Error::shape("item", "one element", &[self.shape()]));
        }
        if self.dtype() == DType::I64 {
            let value = self.to_vec::<i64>()?[0];
            // As an i128, because 2⁶³ is no i64.
            let exact = value as f64 as i128 == i128::from(value);
            return if exact {
                Ok(value as f64)
            } else {
                Err(Error::Inexact { op: "item", value })
            };
        }
        Ok(self.to_f64_vec()?[0])
    }

    /// The same numbers in memory of their own, row-major.
    fn copy(&self) -> Result<Tensor> {
        let cpu = self.cpu("copy")?;
        let mut out = CpuStorage::of_op("copy", self.dtype(), self.numel())?;
        for_element!(self.dtype(), T => self.copy_into::<T>(cpu, out.slice_mut()));
        Ok(Tensor::from_cpu(out, *self.shape()))
    }

    fn copy_into<T: Element>(&self, cpu: &CpuStorage, out: &mut [T]) {
        let (all, layout) = (cpu.slice::<T>(), self.layout());
        if layout.is_contiguous() {
            out.copy_from_slice(&all[layout.offset()..layout.offset() + out.len()]);
        } else {
            let (shape, strides) = (layout.shape(), layout.strides());
            kernels::elementwise::copy_strided(all, shape, strides, layout.offset(), out);
        }
    }

    fn cpu(&self, op: &'static str) -> Result<&CpuStorage> {
        match self.storage() {
            Storage::Cpu(s) => Ok(s),
            #[cfg(feature = "cuda")]
            Storage::Cuda(s) => Err(Error::NoKernel { op, device: s.device() }),
            Storage::Meta(_) => Err(Error::NoKernel { op, device: Device::Meta }),
            Storage::Refused(refused) => Err(refused.error.clone()),
        }
    }

    #[cfg(feature = "cuda")]
    fn to_vec_from_cuda<T: Element>(&self) -> Result<Vec<T>> {
        check_dtype::<T>("to_vec", self.dtype())?;
        let plain = crate::op::contiguous(self)?;
        match plain.storage() {
            Storage::Cuda(s) => s.read(plain.layout().offset(), plain.numel()),
            Storage::Cpu(_) | Storage::Meta(_) | Storage::Refused(_) => Ok(Vec::new()),
        }
    }
}

impl Tensor {
    /// The elements, if they lie contiguously.
    ///
    /// # Errors
    /// [`Error::DType`] for another dtype; [`Error::Shape`] for a strided view (call
    /// [`Tensor::contiguous`] first); [`Error::NoKernel`] when there are no numbers.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        let cpu = self.cpu("as_slice")?;
        check_dtype::<T>("as_slice", self.dtype())?;
        if !self.layout().is_contiguous() {
            return Err(Error::shape("as_slice", "a contiguous tensor", &[self.shape()]));
        }
        let start = self.layout().offset();
        Ok(&cpu.slice::<T>()[start..start + self.numel()])
    }

    /// The elements, to be written in place. If the memory is shared or strided it is copied
    /// first, so no other tensor changes.
    ///
    /// # Errors
    /// [`Error::DType`] for another dtype; [`Error::NoKernel`] when there are no numbers.
    pub fn make_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        self.cpu("make_mut")?;
        check_dtype::<T>("make_mut", self.dtype())?;
        self.unshare()?;
        let n = self.numel();
        match self.storage_mut() {
            Some(Storage::Cpu(cpu)) => Ok(&mut cpu.slice_mut::<T>()[..n]),
            _ => Err(Error::NoKernel { op: "make_mut", device: Device::Meta }),
        }
    }

    /// Makes the memory this tensor's own, in its order: shared or strided memory is copied. After that
    /// [`Tensor::make_mut`] needs none.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; the tensor is as it was.
    pub fn unshare(&mut self) -> Result<()> {
        let whole = self.layout().is_contiguous() && self.layout().offset() == 0;
        if !whole || Arc::get_mut(&mut self.storage).is_none() {
            *self = self.copy()?;
        }
        Ok(())
    }
}

fn check_dtype<T: Element>(op: &'static str, got: DType) -> Result<()> {
    if got == T::DTYPE {
        Ok(())
    } else {
        Err(Error::DType { op, expected: T::DTYPE.to_string(), got })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_in_place_leaves_a_clone_untouched_and_moves_nothing_when_unshared() {
        let mut a = Tensor::from_vec(vec![1.0_f32, 2.0], [2]).unwrap();
        let b = a.clone();
        a.make_mut::<f32>().unwrap()[0] = 9.0;
        assert_eq!(b.to_vec::<f32>().unwrap(), [1.0, 2.0]);
        let address = a.as_slice::<f32>().unwrap().as_ptr();
        a.make_mut::<f32>().unwrap()[1] = 8.0;
        assert_eq!(a.as_slice::<f32>().unwrap().as_ptr(), address);
        assert_eq!(a.to_vec::<f32>().unwrap(), [9.0, 8.0]);
    }

    #[test]
    fn an_integer_that_no_double_can_hold_is_exact_or_refused() {
        let odd = (1_i64 << 53) + 1;
        let x = Tensor::full([2], odd, DType::I64);
        assert_eq!(x.to_vec::<i64>().unwrap(), [odd, odd]);
        assert_eq!(x.to_string(), format!("[{odd}, {odd}] i64 [2]"));
        let one = |x: i64| Tensor::scalar(x, DType::I64);
        assert!(matches!(one(i64::MAX).item(), Err(Error::Inexact { op: "item", .. })));
        assert_eq!(one(i64::MIN).item().unwrap(), -(2_f64.powi(63)));
        assert_eq!(one(odd - 1).item().unwrap(), 2_f64.powi(53));
        let unequal = one(odd).equal(&one(odd - 1)).unwrap();
        assert_eq!(unequal.to_vec::<i64>().unwrap(), [0]);
    }

    #[test]
    fn reading_with_the_wrong_type_is_a_typed_error() {
        let a = Tensor::zeros([2], DType::F32);
        assert!(matches!(a.to_vec::<i64>(), Err(Error::DType { got: DType::F32, .. })));
        assert!(matches!(a.item(), Err(Error::Shape { .. })));
        assert!(matches!(Tensor::meta([2], DType::F32).to_f64_vec(), Err(Error::NoKernel { .. })));
    }
}
