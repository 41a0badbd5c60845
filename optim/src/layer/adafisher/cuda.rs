//! Algorithm 1, lines 6 to 8, for parameters on a CUDA device: all with one λ in one launch, and those
//! that fall back to Adam in another. H and S are two short vectors a layer; they go there when they have
//! changed.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use engine::{Error, ParamId, Result, Tensor};
use kernels::cuda::step::{self, Curvature};
use kernels::cuda::verdict::Verdict;
use kernels::cuda::{Gpu, Slice};

use super::AdaFisher;
use super::factor::Part;
use crate::frame::cuda::{Arrays, Gradient, count, groups, launch, move_all, place};
use crate::frame::per_parameter::zeros;

/// A parameter's F without λ, by vectors that are somewhere: on its device.
#[derive(Debug)]
pub(super) enum Placed<V = Tensor> {
    Outer(V, V),
    Groups { s: V, h: V, groups: usize, width: usize },
    Product(V, V),
    Column(V, f64),
    Constant(f64),
}

impl AdaFisher {
    /// Moves the parameters that are on a CUDA device; returns the others.
    ///
    /// # Errors
    /// As [`groups`], and of the device.
    pub(super) fn step_on_cuda<'a>(&mut self, all: Vec<Gradient<'a>>) -> Result<Vec<Gradient<'a>>> {
        let (groups, here) = groups("adafisher", all)?;
        for (_, _, parameters) in &groups {
            self.place(parameters)?;
        }
        for (gpu, verdict, parameters) in groups {
            let mut alike: BTreeMap<u64, Vec<Gradient<'_>>> = BTreeMap::new();
            let mut adams = Vec::new();
            for (parameter, grad) in parameters {
                if let Some(None) = self.placed.get(&parameter.id()) {
                    adams.push((parameter, grad));
                    continue;
                }
                let cover = self.factors.cover(parameter.id());
                let damping = cover.map_or(0.0, |cover| self.config.damping_of(cover.mean));
                alike.entry(damping.to_bits()).or_default().push((parameter, grad));
            }
            for (damping, mut parameters) in alike {
                let rule = self.config.update(self.rate, 1, f64::from_bits(damping));
                let placed =
                    parameters.iter().filter_map(|(p, _)| self.placed.get(&p.id())?.as_ref());
                let curvature: Vec<_> = placed.map(Placed::curvature).collect::<Result<_>>()?;
                launch(
                    &verdict,
                    &mut self.moments,
                    |p| zeros(p, &["m"]),
                    &mut parameters,
                    |moving| Ok(step::adafisher(&gpu, moving, &curvature, &rule)?),
                )?;
            }
            self.fall_back((&gpu, &verdict), &mut adams)?;
        }
        Ok(here)
    }

    /// Adam's step, with a second moment and a count of steps of its own.
    fn fall_back(
        &mut self,
        (gpu, verdict): (&Gpu, &Verdict),
        parameters: &mut [Gradient<'_>],
    ) -> Result<()> {
        place(&mut self.moments, |p| zeros(p, &["m"]), parameters)?;
        for (parameter, _) in &*parameters {
            let value = parameter.value();
            let zero = || (0, Tensor::zeros(*value.shape(), value.dtype()));
            let (_, v) = self.second.entry(parameter.id()).or_insert_with(zero);
            *v = v.to_device(value.device())?;
        }
        let mut kept = self.moments.all_mut();
        let mut second: HashMap<ParamId, _> =
            self.second.iter_mut().map(|(id, kept)| (*id, kept)).collect();
        let arrays = parameters.iter_mut().filter_map(|(parameter, grad)| {
            let (kept, (steps, v)) =
                (kept.remove(&parameter.id())?, second.remove(&parameter.id())?);
            Some(Arrays::new(parameter, grad, kept.tensors.iter_mut().chain([v]), *steps + 1))
        });
        let rule = self.config.adam(self.rate, 1);
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        move_all(verdict, &arrays, |moving| Ok(step::adam(gpu, moving, &rule)?))?;
        drop(arrays);
        count(&mut self.moments, parameters);
        for (parameter, _) in parameters {
            if let Some((steps, _)) = self.second.get_mut(&parameter.id()) {
                *steps += 1;
            }
        }
        Ok(())
    }

    /// Brings the factors of a group's parameters to their device, all at once.
    fn place(&mut self, parameters: &[Gradient<'_>]) -> Result<()> {
        let mut all = Vec::new();
        let mut ranges = Vec::new();
        for (parameter, _) in parameters {
            if !self.placed.contains_key(&parameter.id()) {
                ranges.push((parameter.id(), self.laid_out(parameter.id(), &mut all)));
            }
        }
        let Some((parameter, _)) = parameters.first().filter(|_| !ranges.is_empty()) else {
            return Ok(());
        };
        let (device, dtype) = (parameter.value().device(), parameter.value().dtype());
        let there = Tensor::from_slice(&all, [all.len()])?.to_dtype(dtype)?.to_device(device)?;
        for (id, placed) in ranges {
            let part = |range: Range<usize>| there.narrow(0, range.start, range.len());
            self.placed.insert(id, placed.map(|placed| placed.map(part)).transpose()?);
        }
        Ok(())
    }

    /// Appends a parameter's vectors to all others'. `None` where Adam takes over.
    fn laid_out(&self, parameter: ParamId, all: &mut Vec<f64>) -> Option<Placed<Range<usize>>> {
        let cover = self.factors.cover(parameter);
        let scale = cover.as_ref().map_or(1.0, |cover| cover.scale);
        let mut put = |v: &[f64], scale: f64| {
            let start = all.len();
            all.extend(v.iter().map(|x| scale * x));
            start..all.len()
        };
        Some(match (cover.map(|cover| cover.part), self.config.constant()) {
            (Some(Part::Outer { s, h, groups: 1, width }), _) => {
                Placed::Outer(put(s, scale), put(&h[..width], 1.0))
            }
            (Some(Part::Outer { s, h, groups, width }), _) => {
                Placed::Groups { s: put(s, scale), h: put(h, 1.0), groups, width }
            }
            (Some(Part::Product { s, h }), _) => Placed::Product(put(s, scale), put(h, 1.0)),
            (Some(Part::Column { s, h }), _) => Placed::Column(put(s, scale), h),
            (None, Some(f)) => Placed::Constant(f),
            (None, None) => return None,
        })
    }
}

impl<V> Placed<V> {
    fn map<W>(self, f: impl Fn(V) -> Result<W>) -> Result<Placed<W>> {
        Ok(match self {
            Self::Outer(s, h) => Placed::Outer(f(s)?, f(h)?),
            Self::Groups { s, h, groups, width } => {
                Placed::Groups { s: f(s)?, h: f(h)?, groups, width }
            }
            Self::Product(s, h) => Placed::Product(f(s)?, f(h)?),
            Self::Column(s, root) => Placed::Column(f(s)?, root),
            Self::Constant(f) => Placed::Constant(f),
        })
    }
}

impl Placed {
    fn curvature(&self) -> Result<Curvature<'_>> {
        Ok(match self {
            Self::Outer(s, h) => Curvature::Outer(slice(s)?, slice(h)?),
            Self::Product(s, h) => Curvature::Product(slice(s)?, slice(h)?),
            Self::Column(s, h) => Curvature::Column(slice(s)?, *h),
            Self::Constant(f) => Curvature::Constant(*f),
            Self::Groups { s, h, groups, width } => {
                Curvature::Groups { s: slice(s)?, h: slice(h)?, groups: *groups, width: *width }
            }
        })
    }
}

fn slice(factor: &Tensor) -> Result<Slice<'_>> {
    let elsewhere = Error::NoKernel { op: "adafisher", device: factor.device() };
    factor.cuda_slice().ok_or(elsewhere)
}
