//! Algorithm 1, lines 6 to 8, for parameters on a CUDA device: all with one λ in one launch, and those
//! that fall back to Adam in another. H and S are two short vectors a layer; they go there when they have
//! changed.

use std::collections::{BTreeMap, HashMap};

use engine::{Error, ParamId, Parameter, Result, Tensor};
use kernels::cuda::step::{self, Curvature};
use kernels::cuda::{Gpu, Slice};

use super::AdaFisher;
use super::factor::Part;
use crate::cuda::{Arrays, Gradient, count, groups, launch, move_all, place};
use crate::per_parameter::zeros;

/// A parameter's F without λ, on its device.
#[derive(Debug)]
pub(super) enum Placed {
    Outer(Tensor, Tensor),
    Groups { s: Tensor, h: Tensor, groups: usize, width: usize },
    Product(Tensor, Tensor),
    Column(Tensor, f64),
    Constant(f64),
}

impl AdaFisher {
    /// Moves the parameters that are on a CUDA device; returns the others.
    ///
    /// # Errors
    /// As [`groups`], and of the device.
    pub(super) fn step_on_cuda<'a>(&mut self, all: Vec<Gradient<'a>>) -> Result<Vec<Gradient<'a>>> {
        let (groups, here) = groups("adafisher", all)?;
        for (parameter, _) in groups.iter().flat_map(|(_, parameters)| parameters) {
            if !self.placed.contains_key(&parameter.id()) {
                let placed = self.place(parameter)?;
                self.placed.insert(parameter.id(), placed);
            }
        }
        for (gpu, parameters) in groups {
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
                    &mut self.moments,
                    |p| zeros(p, &["m"]),
                    &mut parameters,
                    |moving| Ok(step::adafisher(&gpu, moving, &curvature, &rule)?),
                )?;
            }
            self.fall_back(&gpu, &mut adams)?;
        }
        Ok(here)
    }

    /// Adam's step, with a second moment and a count of steps of its own.
    fn fall_back(&mut self, gpu: &Gpu, parameters: &mut [Gradient<'_>]) -> Result<()> {
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
        move_all(&arrays, |moving| Ok(step::adam(gpu, moving, &rule)?))?;
        drop(arrays);
        count(&mut self.moments, parameters);
        for (parameter, _) in parameters {
            if let Some((steps, _)) = self.second.get_mut(&parameter.id()) {
                *steps += 1;
            }
        }
        Ok(())
    }

    /// `None` where Adam takes over.
    fn place(&self, parameter: &Parameter) -> Result<Option<Placed>> {
        let (device, dtype) = (parameter.value().device(), parameter.value().dtype());
        let there =
            |v: &[f64]| Tensor::from_slice(v, [v.len()])?.to_dtype(dtype)?.to_device(device);
        let cover = self.factors.cover(parameter.id());
        let scale = cover.map_or(1.0, |cover| cover.scale);
        let scaled = |s: &[f64]| there(&s.iter().map(|s| scale * s).collect::<Vec<_>>());
        Ok(match (cover.map(|cover| cover.part), self.config.constant()) {
            (Some(Part::Outer { s, h, groups: 1, width }), _) => {
                Some(Placed::Outer(scaled(s)?, there(&h[..width])?))
            }
            (Some(Part::Outer { s, h, groups, width }), _) => {
                Some(Placed::Groups { s: scaled(s)?, h: there(h)?, groups, width })
            }
            (Some(Part::Product { s, h }), _) => Some(Placed::Product(scaled(s)?, there(h)?)),
            (Some(Part::Column { s, h }), _) => Some(Placed::Column(scaled(s)?, h)),
            (None, Some(f)) => Some(Placed::Constant(f)),
            (None, None) => None,
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
