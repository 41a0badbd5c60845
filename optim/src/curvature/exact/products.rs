//! Products of curvature matrices with vectors, without the matrices.
//!
//! ```text
//! H v = ∇⟨∇L, v⟩                                        Pearlmutter 1994
//! J v : the gradient of u ↦ ⟨Jᵀu, v⟩                     two reverse sweeps for one forward
//! C v = Jᵀ (∂²L/∂y²) J v                                 Schraudolph 2002: the Gauss–Newton matrix
//! ```
//! ∂²L/∂y² of the mean loss is N Σ_c s_c s_cᵀ for each term by itself, with the loss's exact seeds s_c.
//! Vectors are all trainable parameters in the model's order, row-major.

use engine::{Error, Likelihood, Parameters, Result, Tape, Tensor, Var, VarGradients};

use crate::algebra::flat;

/// The most that the seeds of a loss may take.
const MOST_BYTES: usize = 1 << 31;

/// The Hessian of a loss, as what multiplies.
///
/// # Example
/// ```
/// use engine::{Parameter, Tape, Tensor};
/// use alcyon_optim::curvature::Hessian;
/// let x = Parameter::new(Tensor::from_slice(&[1.0, 2.0], [2])?);
/// let tape = Tape::new();
/// let y = tape.bind(&x);
/// let loss = y.mul(&y)?.mul(&y)?.sum_all()?; // Σ x³: the Hessian is 6 diag(x)
/// assert_eq!(Hessian::new(&tape, &loss)?.times(&x, &[1.0, 10.0])?, [6.0, 120.0]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Hessian<'a> {
    tape: &'a Tape,
    recorded: VarGradients,
}

impl<'a> Hessian<'a> {
    /// Of a scalar on a tape.
    ///
    /// # Errors
    /// As [`Tape::backward_recorded`].
    pub fn new(tape: &'a Tape, loss: &Var) -> Result<Self> {
        Ok(Self { tape, recorded: tape.backward_recorded(loss)? })
    }

    /// H v
    ///
    /// # Errors
    /// [`Error::NotTwiceDifferentiable`], and
    /// [`Error::Argument`] for a v of another length.
    pub fn times(&self, model: &dyn Parameters, v: &[f64]) -> Result<Vec<f64>> {
        match flat::inner(model, &self.recorded, v)? {
            Some(inner) if inner.is_recorded() => {
                flat::gradients(model, &self.tape.backward(&inner)?)
            }
            _ => Ok(vec![0.0; v.len()]),
        }
    }
}

/// The generalized Gauss–Newton matrix of a loss: for the losses here, the exact Fisher matrix.
#[derive(Debug)]
pub struct GaussNewton<'a> {
    tape: &'a Tape,
    outputs: &'a Var,
    /// u
    probe: Var,
    /// Jᵀu, recorded.
    recorded: VarGradients,
    /// s₁ … s_C
    seeds: Vec<Tensor>,
    terms: usize,
}

impl<'a> GaussNewton<'a> {
    /// Of outputs on a tape, and their loss.
    ///
    /// # Errors
    /// As [`Tape::backward_recorded`] and [`GaussNewton::check`]; the loss's own.
    pub fn new(tape: &'a Tape, outputs: &'a Var, loss: &dyn Likelihood) -> Result<Self> {
        Self::check(outputs, loss)?;
        let probe = tape.watch(Tensor::zeros(*outputs.shape(), outputs.dtype()));
        let recorded = tape.backward_recorded(&outputs.mul(&probe)?.sum_all()?)?;
        let seeds = loss.exact_seeds(&outputs.value())?;
        Ok(Self { tape, outputs, probe, recorded, seeds, terms: loss.terms() })
    }

    /// Whether the seeds have room: one of the outputs' size for each number of a term's outputs, of which a
    /// readout of 50,257 words has too many.
    ///
    /// # Errors
    /// [`Error::Argument`] with the bytes that they would take, above 2 GiB.
    pub fn check(outputs: &Var, loss: &dyn Likelihood) -> Result<()> {
        let numbers = outputs.numel();
        let seeds = numbers.checked_div(loss.terms()).unwrap_or(0);
        let needed = seeds.saturating_mul(numbers).saturating_mul(outputs.dtype().bytes());
        if needed <= MOST_BYTES {
            return Ok(());
        }
        let (op, name) = ("Gauss–Newton product", "outputs");
        let expected =
            "few enough for their seeds: a smaller batch or readout, or another optimizer";
        let got = format!("{seeds} seeds of {}, and {needed} bytes are needed", outputs.shape());
        Err(Error::Argument { op, name, expected, got })
    }

    /// J v, of the outputs' shape.
    ///
    /// # Errors
    /// As [`Hessian::times`].
    pub fn jacobian_times(&self, model: &dyn Parameters, v: &[f64]) -> Result<Vec<f64>> {
        let zeros = || Ok(vec![0.0; self.outputs.numel()]);
        match flat::inner(model, &self.recorded, v)? {
            Some(inner) if inner.is_recorded() => {
                let grads = self.tape.backward(&inner)?;
                grads.of_var(&self.probe).map_or_else(zeros, Tensor::to_f64_vec)
            }
            _ => zeros(),
        }
    }

    /// The coordinates of J v in the root of the output Hessian: ⟨s_c, J v⟩ √N for each term and c.
    /// Their products are vᵀ C w.
    ///
    /// # Errors
    /// As [`Hessian::times`].
    pub fn root_times(&self, model: &dyn Parameters, v: &[f64]) -> Result<Vec<f64>> {
        let jv = self.jacobian_times(model, v)?;
        let width = jv.len().checked_div(self.terms).unwrap_or(0).max(1);
        let scale = (self.terms as f64).sqrt();
        let mut all = Vec::with_capacity(self.terms * self.seeds.len());
        for seed in &self.seeds {
            let seed = seed.to_f64_vec()?;
            let terms = seed.chunks(width).zip(jv.chunks(width));
            all.extend(terms.map(|(seed, jv)| scale * flat::dot(seed, jv)));
        }
        Ok(all)
    }

    /// C v
    ///
    /// # Errors
    /// As [`Hessian::times`].
    pub fn times(&self, model: &dyn Parameters, v: &[f64]) -> Result<Vec<f64>> {
        let (roots, size) = (self.root_times(model, v)?, self.outputs.numel());
        let width = size.checked_div(self.terms).unwrap_or(0).max(1);
        let scale = (self.terms as f64).sqrt();
        let mut w = vec![0.0; size];
        for (seed, roots) in self.seeds.iter().zip(roots.chunks(self.terms.max(1))) {
            let seed = seed.to_f64_vec()?;
            for ((w, seed), root) in w.chunks_mut(width).zip(seed.chunks(width)).zip(roots) {
                w.iter_mut().zip(seed).for_each(|(w, s)| *w += scale * root * s);
            }
        }
        let w = Tensor::from_vec(w, *self.outputs.shape())?.to_dtype(self.outputs.dtype())?;
        let along = self.outputs.mul(&Var::constant(&w))?.sum_all()?;
        flat::gradients(model, &self.tape.backward(&along)?)
    }
}
