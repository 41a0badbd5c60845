//! The same on a CUDA device: ⟨P, g⟩, ν and all parameters' steps, without a number read back.

use engine::{DType, Error, Parameters, Result, Tensor};
use kernels::cuda::{Gpu, Slice, inner, rule};

use super::{Descent, Directions};
use crate::frame::cuda::{Gradient, groups, launch};
use crate::frame::moments::Moments;
use crate::frame::per_parameter::zeros;

/// All parameters' steps in one launch; they have to be on one device, of one dtype.
pub(super) fn step(
    descent: &Descent,
    model: &mut dyn Parameters,
    directions: &Directions,
    gradients: &Directions,
    updates: &mut Moments,
) -> Result<()> {
    let plain = |p: &Tensor| p.contiguous();
    let contiguous: Vec<Tensor> = directions.values().map(plain).collect::<Result<_>>()?;
    let along: Directions = directions.keys().copied().zip(contiguous).collect();
    let all = model.parameters_mut().into_iter();
    let moving: Vec<Gradient<'_>> =
        all.filter_map(|(_, p)| along.get(&p.id()).cloned().map(|d| (p, d))).collect();
    let (mut groups, here) = groups("descent", moving)?;
    let ([(gpu, verdict, parameters)], []) = (groups.as_mut_slice(), here.as_slice()) else {
        let device = along.values().map(Tensor::device).next().unwrap_or(engine::Device::Cpu);
        return Err(Error::NoKernel { op: "descent", device });
    };
    let Some(like) = along.values().next() else { return Ok(()) };
    let scale = descent.clip_there(gpu, &along, gradients, like)?;
    let numbers = [descent.momentum, descent.rate, 1.0 - descent.decay];
    let start = |p: &engine::Parameter| zeros(p, &["update"]);
    launch(verdict, updates, start, parameters, |moving| {
        Ok(rule::step_scaled(gpu, moving, &rule::DESCENT, numbers, slice(&scale)?)?)
    })
}

impl Descent {
    /// ν, on the device: √(c / max(c, α² Σ ⟨P, g⟩)).
    fn clip_there(
        &self,
        gpu: &Gpu,
        directions: &Directions,
        gradients: &Directions,
        like: &Tensor,
    ) -> Result<Tensor> {
        let Some(bound) = self.bound else {
            return Tensor::full_on(like.device(), [1], 1.0, like.dtype());
        };
        let pairs = directions.iter().filter_map(|(id, p)| Some((p, gradients.get(id)?)));
        let pairs = pairs.map(|(p, g)| Ok((slice(p)?, slice(g)?)));
        let pairs: Vec<(Slice<'_>, Slice<'_>)> = pairs.collect::<Result<_>>()?;
        let mut sum = Tensor::full_on(like.device(), [1], 0.0, DType::F64)?;
        inner::inner(gpu, &pairs, &sum.make_cuda_mut()?)?;
        let change = sum.scale(self.rate * self.rate)?.clamp(bound, f64::INFINITY)?;
        change.recip()?.scale(bound)?.sqrt()?.to_dtype(like.dtype())
    }
}

fn slice(x: &Tensor) -> Result<Slice<'_>> {
    x.cuda_slice().ok_or(Error::NoKernel { op: "descent", device: x.device() })
}
