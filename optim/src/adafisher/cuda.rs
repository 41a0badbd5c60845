//! Algorithm 1, lines 6 to 8, for parameters on a CUDA device: all with one λ in one launch. H and S are
//! two short vectors a layer; they go there when they have changed.

use std::collections::BTreeMap;

use engine::{Error, Parameter, Result, Tensor};
use kernels::cuda::Slice;
use kernels::cuda::step::{self, Curvature};

use super::AdaFisher;
use super::factor::Part;
use crate::cuda::{Gradient, groups, launch};
use crate::per_parameter::zeros;

/// A parameter's F without λ, on its device.
#[derive(Debug)]
pub(super) enum Placed {
    Outer(Tensor, Tensor),
    Product(Tensor, Tensor),
    Column(Tensor, f64),
    Constant(f64),
}

impl AdaFisher {
    /// Moves the parameters that are on a CUDA device; returns the others.
    ///
    /// # Errors
    /// [`Error::NoKernel`] for factors of each group of a convolution, and where Adam takes over.
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
            for (parameter, grad) in parameters {
                let cover = self.factors.cover(parameter.id());
                let damping = cover.map_or(0.0, |cover| self.config.damping_of(cover.mean));
                alike.entry(damping.to_bits()).or_default().push((parameter, grad));
            }
            for (damping, mut parameters) in alike {
                let rule = self.config.update(self.rate, 1, f64::from_bits(damping));
                let placed = parameters.iter().filter_map(|(p, _)| self.placed.get(&p.id()));
                let curvature: Vec<_> = placed.map(Placed::curvature).collect::<Result<_>>()?;
                launch(
                    &mut self.moments,
                    |p| zeros(p, &["m"]),
                    &mut parameters,
                    |moving| Ok(step::adafisher(&gpu, moving, &curvature, &rule)?),
                )?;
            }
        }
        Ok(here)
    }

    fn place(&self, parameter: &Parameter) -> Result<Placed> {
        let (device, dtype) = (parameter.value().device(), parameter.value().dtype());
        let there =
            |v: &[f64]| Tensor::from_slice(v, [v.len()])?.to_dtype(dtype)?.to_device(device);
        let refused = |op| Err(Error::NoKernel { op, device });
        let cover = self.factors.cover(parameter.id());
        let scale = cover.map_or(1.0, |cover| cover.scale);
        let scaled = |s: &[f64]| there(&s.iter().map(|s| scale * s).collect::<Vec<_>>());
        match (cover.map(|cover| cover.part), self.config.constant()) {
            (Some(Part::Outer { s, h, groups: 1, width }), _) => {
                Ok(Placed::Outer(scaled(s)?, there(&h[..width])?))
            }
            (Some(Part::Outer { .. }), _) => refused("adafisher with factors of each group"),
            (Some(Part::Product { s, h }), _) => Ok(Placed::Product(scaled(s)?, there(h)?)),
            (Some(Part::Column { s, h }), _) => Ok(Placed::Column(scaled(s)?, h)),
            (None, Some(f)) => Ok(Placed::Constant(f)),
            (None, None) => refused("adafisher where Adam takes over"),
        }
    }
}

impl Placed {
    fn curvature(&self) -> Result<Curvature<'_>> {
        Ok(match self {
            Self::Outer(s, h) => Curvature::Outer(slice(s)?, slice(h)?),
            Self::Product(s, h) => Curvature::Product(slice(s)?, slice(h)?),
            Self::Column(s, h) => Curvature::Column(slice(s)?, *h),
            Self::Constant(f) => Curvature::Constant(*f),
        })
    }
}

fn slice(factor: &Tensor) -> Result<Slice<'_>> {
    let elsewhere = Error::NoKernel { op: "adafisher", device: factor.device() };
    factor.cuda_slice().ok_or(elsewhere)
}
