//! One weight's factors: their running average, and the sums of the step going on.
//!
//! Of a layer on a device both are there, in f64, and it is there that a batch which is not finite is left
//! out: the host reads averages when they are inverted or saved, and not before.

use std::ops::Range;

use engine::{DType, Device, Result, Tensor, room};
use kernels::parallel;

use super::Start;
use crate::algebra::pattern::Pattern;
use crate::curvature::block::block_inverse::BlockInverse;
use crate::curvature::block::kronecker::Kronecker;
use crate::curvature::block::precondition::DampingRule;
use crate::curvature::reduce::numbers::Numbers;
use crate::curvature::reduce::second_moments::Moments;

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// In main memory; of a layer on a device, as it was when it was last read.
    pub(crate) average: Kronecker,
    /// a and g of the average on the device that sums come from.
    there: Option<[Tensor; 2]>,
    /// The batches in it.
    pub(crate) updates: u64,
    /// Of the micro-batch going on, then of those finished.
    pub(super) batch: Sums,
    pub(super) finished: Sums,
    /// What a fold has changed, until its step is taken.
    before: Option<Before>,
}

/// An entry before a fold.
#[derive(Debug, Clone)]
struct Before {
    there: Option<[Tensor; 2]>,
    updates: u64,
    /// a and g of the average, if they have been replaced.
    here: Option<[Vec<f64>; 2]>,
}

/// Empty until there is something to add: between refreshes they take no memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    pub(super) a: Numbers,
    pub(super) rows: f64,
    pub(super) g: Numbers,
}

impl Entry {
    /// # Errors
    /// [`Error::OutOfMemory`](engine::Error::OutOfMemory).
    pub(super) fn new(new: &Moments, start: Start) -> Result<Self> {
        let Moments { form, groups, bias, .. } = *new;
        let (inputs, outputs) = (new.inputs.clone(), new.outputs.clone());
        let zeros = |side: &Pattern| room::zeros("factors", groups.saturating_mul(side.numbers()));
        let (a, g) = (zeros(&inputs)?, zeros(&outputs)?);
        let mut average = Kronecker { form, groups, bias, inputs, outputs, a, g };
        if start == Start::Identity {
            average.set_identity();
        }
        Ok(Self::around(average))
    }

    pub(super) fn around(average: Kronecker) -> Self {
        let [batch, finished] = Default::default();
        Self { average, there: None, updates: 0, batch, finished, before: None }
    }

    pub(super) fn fits(&self, new: &Moments) -> bool {
        let old = &self.average;
        (old.form, old.groups, old.bias, &old.inputs, &old.outputs)
            == (new.form, new.groups, new.bias, &new.inputs, &new.outputs)
    }

    /// The micro-batch is over: its sums, those of g times a number, are added to the finished ones.
    pub(super) fn finish(&mut self, scale: f64) -> Result<()> {
        let Sums { a, rows, mut g } = std::mem::take(&mut self.batch);
        g.scale(scale)?;
        self.finished.rows += rows;
        self.finished.a.add(a)?;
        self.finished.g.add(g)
    }

    /// The finished sums in main memory with all their zeros, for workers that have seen this layer and
    /// those that have not.
    pub(super) fn whole_sums(&mut self) -> Result<impl Iterator<Item = &mut f64>> {
        let Self { average, finished: Sums { a, rows, g }, .. } = self;
        let a = a.here(average.a.len())?;
        Ok(a.iter_mut().chain(g.here(average.g.len())?).chain([rows]))
    }

    /// Whether the finished sums that are in main memory can be averaged in.
    pub(super) fn is_whole(&self) -> bool {
        [&self.finished.a, &self.finished.g].into_iter().all(Numbers::are_second_moments)
    }

    /// The average goes where the sums are; and sums that have been exchanged to where the average is.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Sums { a, g, .. } = &mut self.finished;
        let device = match &self.there {
            Some([a, _]) => Some(a.device()),
            None => a.device().or(g.device()),
        };
        let Some(device) = device else { return Ok(()) };
        for numbers in [a, g] {
            numbers.bring_to(device)?;
        }
        if self.there.is_none() {
            let Kronecker { a, g, .. } = &self.average;
            let there = |x: &[f64]| Tensor::from_slice(x, [x.len()])?.to_device(device);
            self.there = Some([there(a)?, there(g)?]);
        }
        Ok(())
    }

    /// A fold begins.
    pub(super) fn mark(&mut self) {
        self.before = Some(Before { there: self.there.clone(), updates: self.updates, here: None });
    }

    /// The step of the last fold is taken.
    pub(super) fn commit(&mut self) {
        self.before = None;
    }

    /// Takes back the last fold, if its step has not been taken, and forgets all sums.
    pub(super) fn discard(&mut self) {
        (self.batch, self.finished) = Default::default();
        if let Some(Before { there, updates, here }) = self.before.take() {
            (self.there, self.updates) = (there, updates);
            if let Some([a, g]) = here {
                (self.average.a, self.average.g) = (a, g);
            }
        }
    }

    /// F ← F + (sum / count − F) / w; on a device, unless the batch is `bad`.
    pub(super) fn fold(&mut self, terms: f64, weight: f64, bad: Option<&Tensor>) -> Result<()> {
        let Sums { a, rows, g } = std::mem::take(&mut self.finished);
        self.updates += 1;
        match (&mut self.there, bad) {
            #[cfg(feature = "cuda")]
            (Some([a_there, g_there]), Some(bad)) => {
                there::average(a_there, &a, (rows, weight), bad)?;
                there::average(g_there, &g, (terms, weight), bad)
            }
            _ => {
                let Kronecker { a: a_here, g: g_here, .. } = &mut self.average;
                let old = [(a_here, a, rows), (g_here, g, terms)].map(|(old, sum, count)| {
                    let new = match sum {
                        Numbers::Here(sum) if sum.len() == old.len() => {
                            average(old, sum, count, weight)
                        }
                        _ => old.clone(),
                    };
                    std::mem::replace(old, new)
                });
                if let Some(before) = &mut self.before {
                    before.here = Some(old);
                }
                Ok(())
            }
        }
    }

    /// Brings the average to main memory, where [`Entry::average`] shows it. The host waits.
    pub(super) fn fetch(&mut self) -> Result<()> {
        if let Some([a, g]) = &self.there {
            (self.average.a, self.average.g) = (a.to_vec::<f64>()?, g.to_vec::<f64>()?);
        }
        Ok(())
    }

    /// a and g of the average as it is now, in main memory.
    pub(crate) fn now(&self) -> Result<[Tensor; 2]> {
        match &self.there {
            Some([a, g]) => Ok([a.to_device(Device::Cpu)?, g.to_device(Device::Cpu)?]),
            None => {
                let vector = |x: &[f64]| Tensor::from_slice(x, [x.len()]);
                Ok([vector(&self.average.a)?, vector(&self.average.g)?])
            }
        }
    }

    /// The damped inverse, found where the average is if that is a device, and a number `[1]` that is not 0 if
    /// it could not be. `None` where the host has to find it, from what [`Entry::fetch`] brings.
    pub(crate) fn inverse_there(
        &self,
        columns: &Range<usize>,
        damping: (f64, DampingRule),
        dtype: DType,
    ) -> Result<Option<(BlockInverse, Tensor)>> {
        #[cfg(feature = "cuda")]
        if let Some(there) = &self.there
            && let Some(found) = BlockInverse::on_device(&self.average, there, columns, damping)?
        {
            // Rounded, for a number may be too large for it.
            let found = found.to_dtype(dtype)?;
            let mut bad = Tensor::full_on(there[0].device(), [1], 0.0, DType::I64)?;
            for tensor in found.tensors() {
                bad = there::look(&tensor.contiguous()?, bad)?;
            }
            return Ok(Some((found, bad)));
        }
        let _ = (columns, damping, dtype);
        Ok(None)
    }

    /// Whether the average is on a device.
    pub(crate) const fn is_there(&self) -> bool {
        self.there.is_some()
    }
}

/// Whether one of the finished sums on the device is not finite: a number there, `[1]`. None if no sum is on
/// a device.
pub(super) fn look<'a>(entries: impl Iterator<Item = &'a Entry>) -> Result<Option<Tensor>> {
    let mut bad: Option<Tensor> = None;
    for sum in entries.flat_map(|entry| [&entry.finished.a, &entry.finished.g]) {
        let Numbers::There(sum) = sum else { continue };
        let zero = || Tensor::full_on(sum.device(), [1], 0.0, DType::I64);
        let flag = bad.take().map_or_else(zero, Ok)?;
        #[cfg(feature = "cuda")]
        let flag = there::look(sum, flag)?;
        bad = Some(flag);
    }
    Ok(bad)
}

/// F + (sum / count − F) / w, in the place of the sum.
fn average(factor: &[f64], mut sum: Vec<f64>, count: f64, weight: f64) -> Vec<f64> {
    parallel::pieces(&mut sum, 1, |start, sum| {
        let (count, weight) = (count, weight); // copies: a loop that writes cannot change them
        sum.iter_mut().zip(&factor[start..]).for_each(|(x, f)| *x = f + (*x / count - f) / weight);
    });
    sum
}

#[cfg(feature = "cuda")]
mod there {
    use kernels::cuda::{Gpu, Slice, running};

    use super::{Numbers, Result, Tensor};

    /// F ← F + (sum / count − F) / w in place, unless the batch is bad.
    pub(super) fn average(
        factor: &mut Tensor,
        sum: &Numbers,
        (count, weight): (f64, f64),
        bad: &Tensor,
    ) -> Result<()> {
        let Numbers::There(sum) = sum else { return Ok(()) };
        let ((gpu, sum), (_, bad)) = (slice(sum)?, slice(bad)?);
        Ok(running::average(gpu, sum, bad, (count, weight), &factor.make_cuda_mut()?)?)
    }

    /// 1 if a number is not finite, else as before.
    pub(super) fn look(sum: &Tensor, mut bad: Tensor) -> Result<Tensor> {
        let (gpu, sum) = slice(sum)?;
        running::look(gpu, sum, &bad.make_cuda_mut()?)?;
        Ok(bad)
    }

    fn slice(x: &Tensor) -> Result<(&Gpu, Slice<'_>)> {
        let elsewhere = engine::Error::NoKernel { op: "running average", device: x.device() };
        x.gpu().map(|gpu| &**gpu).zip(x.cuda_slice()).ok_or(elsewhere)
    }
}
