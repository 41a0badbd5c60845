//! Several workers, one batch: what they exchange is raw sums and counts, so that they equal the whole.
//!
//! ```text
//! A = Σ_w Σ a aᵀ / Σ_w R_w        G = Σ_w N_w² Σ g gᵀ / Σ_w N_w        ∇L = Σ_w N_w ∇L_w / Σ_w N_w
//! ```
//! for workers w with R_w rows and N_w terms each. Averages of averages would weigh a small last batch like
//! a full one. A training step is then
//!
//! ```text
//! pass      = backward(tape, outputs, loss, optimizer)                as ever
//! optimizer.exchange(communicator)                                    the sums, before the step
//! gradients = mean_gradients(model, pass.gradients, N_w, communicator)
//! optimizer.step(model, gradients)                                    the same on every worker
//! ```
//! Every worker has the same model, so parameters come in the same order and no names are sent. With
//! drawn labels each worker's generator needs a seed of its own.

use engine::{Error, Gradients, Parameters, Result, Tensor};

/// A sum over workers: the one collective operation that curvature needs.
pub trait Communicator {
    /// How many workers there are.
    fn workers(&self) -> usize;

    /// Replaces each number by its sum over all workers. The order of the sum must not depend on who
    /// arrives first, so that all workers get the same bits.
    ///
    /// # Errors
    /// The communicator's own.
    fn sum(&mut self, numbers: &mut [f64]) -> Result<()>;
}

/// One worker, alone: every sum is what it is.
///
/// # Example
/// ```
/// use alcyon_optim::curvature::{Communicator, Local};
/// let mut numbers = [1.0, 2.0];
/// Local.sum(&mut numbers)?;
/// assert_eq!((Local.workers(), numbers), (1, [1.0, 2.0]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Local;

impl Communicator for Local {
    fn workers(&self) -> usize {
        1
    }

    fn sum(&mut self, _numbers: &mut [f64]) -> Result<()> {
        Ok(())
    }
}

/// The gradients of the mean loss over all workers' batches, from those of this worker's batch of
/// `terms` terms.
///
/// # Errors
/// As [`Communicator::sum`] and [`Gradients::check_owned`]; [`Error::Argument`] when the workers' models are not the same size.
pub fn mean_gradients(
    model: &dyn Parameters,
    gradients: &Gradients,
    terms: usize,
    communicator: &mut dyn Communicator,
) -> Result<Gradients> {
    gradients.check_owned(model)?;
    let parameters = model.parameters();
    let mut numbers = vec![terms as f64];
    for (_, parameter) in &parameters {
        // Whether this worker has used it; then Σ over its terms.
        match gradients.of(parameter) {
            Some(gradient) => {
                numbers.push(1.0);
                let sums = gradient.to_f64_vec()?.into_iter().map(|g| g * terms as f64);
                numbers.extend(sums);
            }
            None => numbers.extend(std::iter::repeat_n(0.0, 1 + parameter.value().numel())),
        }
    }
    exchange(numbers.iter_mut(), communicator)?;
    let mut mean = Gradients::default();
    mean.set_unused(gradients.unused());
    let (total, mut rest) = (numbers[0].max(1.0), &numbers[1..]);
    for (_, parameter) in &parameters {
        let value = parameter.value();
        let (own, tail) = rest.split_at(1 + value.numel());
        rest = tail;
        if own[0] > 0.0 {
            let values: Vec<f64> = own[1..].iter().map(|g| g / total).collect();
            let gradient = Tensor::from_vec(values, *value.shape())?.to_dtype(value.dtype())?;
            mean.set(parameter, gradient);
        }
    }
    Ok(mean)
}

/// Sums numbers over the workers, in one message and where they stand.
pub(crate) fn exchange<'a>(
    numbers: impl Iterator<Item = &'a mut f64>,
    communicator: &mut dyn Communicator,
) -> Result<()> {
    if communicator.workers() <= 1 {
        return Ok(());
    }
    let places: Vec<&mut f64> = numbers.collect();
    // Workers that have seen other layers would add up what does not belong together.
    let (count, workers) = (places.len() as f64, communicator.workers() as f64);
    let mut counts = [count, count * count];
    communicator.sum(&mut counts)?;
    if counts != [workers * count, workers * count * count] {
        let got = format!("{count} of {} in all", counts[0]);
        let expected = "as many numbers on every worker";
        return Err(Error::Argument { op: "exchange", name: "sums", expected, got });
    }
    let mut values: Vec<f64> = places.iter().map(|x| **x).collect();
    communicator.sum(&mut values)?;
    places.into_iter().zip(values).for_each(|(place, value)| *place = value);
    Ok(())
}
