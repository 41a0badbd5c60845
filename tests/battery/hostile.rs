//! Batches that no loader should give, and some do. After two good steps an optimizer gets one of them three
//! times: each time it steps to finite numbers, or refuses by a typed error, and then nothing has moved: no
//! parameter and nothing that is kept, to the bit. Then it gets good batches again, and has to go on: every
//! entry of every parameter moves. In f32 and in f64.
//!
//! On a CUDA device the refusal is that of the next read, and the host has taken the step for one that is taken: it
//! is counted, and so is what estimators have seen of the batch, if that was finite.

use engine::{DType, Device, Error, Parameters, Result, Tape, Tensor, Var};
use nn::CrossEntropy;
use optim::{Batch, Optimizer, build};

use super::models::{Forward, Net, batch, values};

/// What is wrong with a batch.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Inputs near the largest number; a gradient whose square is infinite.
    Huge,
    /// Inputs near the smallest number; gradients whose squares are 0.
    Tiny,
    /// Inputs, or one gradient.
    NotANumber,
    /// Inputs, or one gradient.
    Infinite,
    /// Inputs of zero: the first layer's weight has no gradient.
    Dead,
    /// One number everywhere, and one label.
    Constant,
    /// One example, 24 times.
    Duplicate,
    /// One example.
    One,
}

/// A batch, and what happens to the logits.
struct Hostile {
    x: Tensor,
    y: Tensor,
    bend: Bend,
}

#[derive(Clone, Copy)]
enum Bend {
    None,
    Scaled(f64),
    /// Added: s (b − b), with b the last bias: 0, of slope s.
    Slope(f64),
    /// Added: √(s (b − b)), of slope s times infinity.
    Root(f64),
}

impl Hostile {
    fn logits(&self, model: &Net, tape: &Tape) -> Result<Var> {
        let logits = model.logits(tape, &self.x)?;
        let nothing = |s: f64| {
            let here = tape.input(model.second_bias.value().clone());
            tape.bind(&model.second_bias).sub(&here)?.scale(s)
        };
        match self.bend {
            Bend::None => Ok(logits),
            Bend::Scaled(s) => logits.scale(s),
            Bend::Slope(s) => logits.add(&nothing(s)?),
            Bend::Root(s) => logits.add(&nothing(s)?.sqrt()?),
        }
    }

    /// One step, and a look at what a device may have to say of it.
    fn step(&self, model: &mut Net, optimizer: &mut dyn Optimizer) -> Result<f64> {
        let loss = CrossEntropy::new(&self.y);
        let forward = |model: &Net, tape: &Tape| self.logits(model, tape);
        let done = optimizer.minimize(&mut Batch::new(model, forward, &loss).training(0));
        done.and_then(|loss| model.second.value().to_f64_vec().map(|_| loss))
    }

    fn to(&self, device: Device) -> Self {
        let [x, y] = [&self.x, &self.y].map(|t| t.to_device(device).unwrap());
        Self { x, y, bend: self.bend }
    }
}

fn batches(kind: Kind, dtype: DType) -> Vec<Hostile> {
    let (x, y) = batch(77, dtype);
    let single = dtype == DType::F32;
    let all = |value: f64| Tensor::full([24, 4], value, dtype);
    let part = |t: &Tensor, n: usize| t.narrow(0, 0, n).unwrap().contiguous().unwrap();
    let of = |x: Tensor| Hostile { x, y: y.clone(), bend: Bend::None };
    let bent = |bend: Bend| Hostile { x: x.clone(), y: y.clone(), bend };
    match kind {
        Kind::Huge if single => vec![of(x.scale(1e38).unwrap()), bent(Bend::Slope(1e20))],
        Kind::Huge => vec![of(x.scale(1e307).unwrap()), bent(Bend::Slope(1e160))],
        Kind::Tiny if single => vec![of(x.scale(1e-37).unwrap()), bent(Bend::Scaled(1e-30))],
        Kind::Tiny => vec![of(x.scale(1e-300).unwrap()), bent(Bend::Scaled(1e-200))],
        Kind::NotANumber => vec![of(all(f64::NAN)), bent(Bend::Root(0.0))],
        Kind::Infinite => vec![of(all(f64::INFINITY)), bent(Bend::Root(1.0))],
        Kind::Dead => vec![of(all(0.0))],
        Kind::Constant => {
            vec![Hostile { y: Tensor::full([24], 1.0, DType::I64), ..of(all(1.0)) }]
        }
        Kind::Duplicate => {
            let twice = |t: &Tensor| Tensor::concat(&[&part(t, 1); 24], 0).unwrap();
            vec![Hostile { x: twice(&x), y: twice(&y), bend: Bend::None }]
        }
        Kind::One => vec![Hostile { x: part(&x, 1), y: part(&y, 1), bend: Bend::None }],
    }
}

/// Parameters, and what is saved of the optimizer, but for the draws of a sweep that has been made.
type Kept = (Vec<f64>, Vec<(String, String)>, Vec<(String, Vec<f64>)>);

fn kept(model: &Net, optimizer: &dyn Optimizer) -> Kept {
    let state = optimizer.state(model).unwrap();
    let tensors = state.tensors.into_iter().map(|(key, t)| (key, t.to_f64_vec().unwrap()));
    let numbers = state.numbers.into_iter().filter(|(key, _)| !key.contains("generator"));
    (values(model), numbers.collect(), tensors.collect())
}

/// The first name of something that is not finite.
fn not_finite((values, _, tensors): &Kept) -> Option<&str> {
    let finite = |x: &[f64]| x.iter().all(|x| x.is_finite());
    let bad = tensors.iter().find(|(_, x)| !finite(x)).map(|(key, _)| key.as_str());
    if finite(values) { bad } else { Some("a parameter") }
}

/// What is asked: see above.
pub(crate) fn survives(name: &str, kind: Kind, device: Device) -> std::result::Result<(), String> {
    for dtype in [DType::F32, DType::F64] {
        for (which, hostile) in batches(kind, dtype).iter().enumerate() {
            one(name, dtype, &hostile.to(device))
                .map_err(|how| format!("{name}, {dtype}, batch {which}: {how}"))?;
        }
    }
    Ok(())
}

fn one(name: &str, dtype: DType, hostile: &Hostile) -> std::result::Result<(), String> {
    let device = hostile.x.device();
    let good = |seed| {
        let (x, y) = batch(seed, dtype);
        Hostile { x, y, bend: Bend::None }.to(device)
    };
    let (mut model, mut optimizer) = (Net::new(dtype), build(name, None).unwrap());
    model.to_device(device).unwrap();
    (0..2).for_each(|seed| _ = good(seed).step(&mut model, &mut *optimizer).unwrap());
    for _ in 0..3 {
        let before = kept(&model, &*optimizer);
        let done = hostile.step(&mut model, &mut *optimizer);
        let after = kept(&model, &*optimizer);
        if let Some(what) = not_finite(&after) {
            return Err(format!("{what} is not finite after {done:?}"));
        }
        let estimates = optimizer.curvature().is_some() || optimizer.hessian_diagonal().is_some();
        let same = match device {
            Device::Cpu => after == before,
            _ => after.0 == before.0 && (estimates || after.2 == before.2),
        };
        match done {
            Err(refused) if !same => return Err(format!("moved, and {refused}")),
            Err(Error::InLayer { .. } | Error::NotFinite { .. }) | Ok(_) => {}
            Err(other) if device == Device::Cpu => return Err(format!("names no place: {other}")),
            Err(other) if other.to_string().contains("was not taken") => {}
            Err(other) => return Err(format!("does not say what has happened: {other}")),
        }
    }
    let mut last = values(&model);
    let mut still = vec![true; last.len()];
    for seed in 2..12 {
        let done = good(seed).step(&mut model, &mut *optimizer);
        done.map_err(|error| format!("later: {error}"))?;
        let now = values(&model);
        still.iter_mut().zip(now.iter().zip(&last)).for_each(|(still, (a, b))| *still &= a == b);
        last = now;
    }
    let after = kept(&model, &*optimizer);
    if let Some(what) = not_finite(&after) {
        return Err(format!("{what} is not finite later"));
    }
    match still.iter().filter(|still| **still).count() {
        0 => Ok(()),
        count => Err(format!("{count} of {} entries stay", still.len())),
    }
}
