//! The numbers of a factor: in main memory, or on the device where they were added up.

use engine::{Device, Result, Tensor};

/// Whether a second moment is a number that curvature is made of: its root fits f32. A larger one would stay in a
/// running average for thousands of steps. Not of NaN.
pub(crate) fn is_second_moment(x: f64) -> bool {
    x.abs() <= f64::from(f32::MAX)
}

/// A run of f64.
#[derive(Debug, Clone)]
pub(crate) enum Numbers {
    /// In main memory.
    Here(Vec<f64>),
    /// On a device, flat.
    There(Tensor),
}

impl Default for Numbers {
    /// None.
    fn default() -> Self {
        Self::Here(Vec::new())
    }
}

impl Numbers {
    /// Adds; the first term is the sum, and says where it is.
    pub(crate) fn add(&mut self, mut new: Self) -> Result<()> {
        if let Some(device) = self.device() {
            new.bring_to(device)?;
        }
        match (&mut *self, new) {
            (Self::Here(sum), new) if sum.is_empty() => *self = new,
            (_, Self::Here(new)) if new.is_empty() => {}
            (Self::There(sum), Self::There(new)) => *sum = sum.add(&new)?,
            (Self::Here(sum), new) => {
                let new = new.read(sum.len())?;
                sum.iter_mut().zip(&new).for_each(|(sum, x)| *sum += x);
            }
            (Self::There(_), Self::Here(_)) => {}
        }
        Ok(())
    }

    /// Multiplies all.
    pub(crate) fn scale(&mut self, factor: f64) -> Result<()> {
        match self {
            Self::Here(values) => values.iter_mut().for_each(|x| *x *= factor),
            Self::There(tensor) => *tensor = tensor.scale(factor)?,
        }
        Ok(())
    }

    /// The device that they are on; `None` for main memory.
    pub(crate) fn device(&self) -> Option<Device> {
        match self {
            Self::Here(_) => None,
            Self::There(tensor) => Some(tensor.device()),
        }
    }

    /// Brings them to a device; none at all stay none.
    pub(crate) fn bring_to(&mut self, device: Device) -> Result<()> {
        match self {
            Self::Here(values) if values.is_empty() => {}
            Self::Here(values) => {
                let flat = Tensor::from_slice(values, [values.len()])?;
                *self = Self::There(flat.to_device(device)?);
            }
            Self::There(tensor) => *tensor = tensor.to_device(device)?,
        }
        Ok(())
    }

    /// Brings them to main memory, `len` of them: zeros if there are none. The host waits for a device.
    pub(crate) fn here(&mut self, len: usize) -> Result<&mut [f64]> {
        *self = Self::Here(self.read(len)?);
        match self {
            Self::Here(values) => Ok(values),
            Self::There(_) => Ok(&mut []),
        }
    }

    fn read(&self, len: usize) -> Result<Vec<f64>> {
        let mut values = match self {
            Self::Here(values) => values.clone(),
            Self::There(tensor) => tensor.to_vec::<f64>()?,
        };
        values.resize(len, 0.0);
        Ok(values)
    }

    /// Whether those in main memory are second moments; others are not asked.
    pub(crate) fn are_second_moments(&self) -> bool {
        match self {
            Self::Here(values) => values.iter().all(|&x| is_second_moment(x)),
            Self::There(_) => true,
        }
    }
}
