//! All factors of a model: which parameter is covered by which, and how they are saved.

use std::collections::{BTreeMap, HashMap};

use engine::{ParamId, Parameter, Parameters, Result, Shape, Tensor};

use super::factor::{Factor, Part};
use crate::State;
use crate::algebra::read_together::together;
use crate::curvature::estimate::diagonals::{Diagonal, Form, partial_squares};
use crate::curvature::estimate::running::{Averaging, EmaRule};
use crate::frame::moments::fits;
use crate::frame::saved::{Saved, refused};

/// Factors by weight.
#[derive(Debug, Clone, Default)]
pub(super) struct Factors {
    of: BTreeMap<ParamId, Factor>,
    /// The weight whose factors cover a bias; `None` if several might.
    beside: HashMap<ParamId, Option<ParamId>>,
    /// v̄ of the parameters that factors cover, where F is scaled to the gradient.
    magnitudes: HashMap<ParamId, f64>,
}

/// What a parameter gets from factors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cover<'a> {
    /// F without λ, but for its scale.
    pub(super) part: Part<'a>,
    /// What `part` is to be multiplied by.
    pub(super) scale: f64,
    /// The mean of H·S over the layer; v̄ where F is scaled to the gradient.
    pub(super) mean: f64,
    form: Form,
}

impl Factors {
    /// A weight's.
    pub(super) fn get(&self, weight: ParamId) -> Option<&Factor> {
        self.of.get(&weight)
    }

    /// What a weight or bias gets, if a layer's factors cover it.
    pub(super) fn cover(&self, parameter: ParamId) -> Option<Cover<'_>> {
        let (factor, part) = match self.of.get(&parameter) {
            Some(factor) => (factor, factor.weight()),
            None => {
                let factor = self.of.get(self.beside.get(&parameter)?.as_ref()?)?;
                (factor, factor.bias())
            }
        };
        let (scale, mean) = match self.magnitudes.get(&parameter) {
            None => (1.0, factor.mean()),
            Some(&v) => {
                let mean = part.mean();
                (if mean > 0.0 { v / mean } else { 0.0 }, v)
            }
        };
        Some(Cover { part, scale, mean, form: factor.form })
    }

    /// Whether a parameter is the bias of several weights: then no layer's factors are its own.
    pub(super) fn is_shared(&self, parameter: ParamId) -> bool {
        self.beside.get(&parameter).is_some_and(Option::is_none)
    }

    /// Averages a batch's diagonals in.
    pub(super) fn refresh(&mut self, observed: Vec<(ParamId, Diagonal)>, rule: &Averaging) {
        for (weight, new) in observed {
            self.of.entry(weight).or_insert_with(|| Factor::new(new.form)).refresh(new, rule);
        }
        self.find_biases();
    }

    /// Averages the mean of g² in, of every parameter that factors cover. Returns the first one, if there is one,
    /// whose gradient no step takes: on a device nobody has looked at it before.
    pub(super) fn measure(
        &mut self,
        all: &[(&mut Parameter, Tensor)],
        rule: EmaRule,
    ) -> Result<Option<ParamId>> {
        let covered = |(p, _): &&(&mut Parameter, Tensor)| self.cover(p.id()).is_some();
        let covered: Vec<_> = all.iter().filter(covered).collect();
        let squares = covered.iter().map(|(_, grad)| partial_squares(grad));
        let squares = squares.collect::<Result<Vec<_>>>()?;
        let squares = together(&squares.iter().collect::<Vec<_>>())?;
        for ((parameter, grad), squares) in covered.into_iter().zip(squares) {
            let sum = squares.iter().sum::<f64>();
            if !fits(sum, grad.dtype()) {
                return Ok(Some(parameter.id()));
            }
            let new = sum / grad.numel().max(1) as f64;
            let v = self.magnitudes.entry(parameter.id()).or_insert(new);
            *v = rule.keep * *v + rule.gain * new;
        }
        Ok(None)
    }

    fn find_biases(&mut self) {
        self.beside.clear();
        for (&weight, factor) in &self.of {
            for &bias in &factor.biases {
                let known = self.beside.entry(bias).or_insert(Some(weight));
                if *known != Some(weight) {
                    *known = None;
                }
            }
        }
    }

    /// Writes the averages down: `layers.0.weight/h`, `…/s`, the form, and the biases' paths.
    pub(super) fn save(&self, model: &dyn Parameters, state: &mut State) -> Result<()> {
        let parameters = model.parameters();
        for (path, parameter) in &parameters {
            if let Some(v) = self.magnitudes.get(&parameter.id()) {
                state.numbers.insert(format!("{path}/magnitude"), v.to_string());
            }
            let Some(factor) = self.get(parameter.id()) else { continue };
            let beside = parameters.iter().filter(|(_, p)| factor.biases.contains(&p.id()));
            let biases: Vec<&str> = beside.map(|(path, _)| path.as_str()).collect();
            state.numbers.insert(format!("{path}/form"), factor.form.to_string());
            state.numbers.insert(format!("{path}/biases"), biases.join("\n"));
            for (name, v) in [("h", &factor.trace.h_state), ("s", &factor.trace.s_state)] {
                let tensor = Tensor::from_slice(v, Shape::from([v.len()]))?;
                state.tensors.insert(format!("{path}/{name}"), tensor);
            }
        }
        Ok(())
    }

    /// Reads what [`Factors::save`] wrote.
    pub(super) fn load(
        model: &dyn Parameters,
        saved: &mut Saved,
        rule: &Averaging,
    ) -> Result<Self> {
        let mut factors = Self::default();
        let parameters = model.parameters();
        for (path, parameter) in &parameters {
            if let Some(v) = saved.number_if_any(&format!("{path}/magnitude"))? {
                factors.magnitudes.insert(parameter.id(), v);
            }
            let Some(form) = saved.number_if_any::<Form>(&format!("{path}/form"))? else {
                continue;
            };
            let paths: String = saved.number(&format!("{path}/biases"))?;
            let find = |bias: &str| match parameters.iter().find(|(path, _)| path == bias) {
                Some((_, p)) => Ok(p.id()),
                None => Err(refused("biases of this model", format!("`{bias}`"))),
            };
            let mut factor = Factor::new(form);
            factor.biases = paths.lines().map(find).collect::<Result<_>>()?;
            let h = saved.vector(&format!("{path}/h"))?;
            let s = saved.vector(&format!("{path}/s"))?;
            let value = parameter.value();
            if !form.fits(value.shape(), !factor.biases.is_empty(), h.len(), s.len()) {
                let got = format!("`{path}`: {form} of {} and {} entries", h.len(), s.len());
                return Err(refused("factors that fit their weights", got));
            }
            factor.restore([h, s], rule, value.dtype());
            factors.of.insert(parameter.id(), factor);
        }
        factors.find_biases();
        Ok(factors)
    }
}

impl Cover<'_> {
    /// F + λ, written out.
    pub(super) fn materialise(&self, damping: f64) -> Vec<f64> {
        self.part.materialise(self.scale, damping)
    }

    /// In a few words, for people.
    pub(super) const fn describe(&self) -> &'static str {
        match self.form {
            Form::Outer { groups: 1 } => "diagonal Kronecker factors",
            Form::Outer { .. } => "diagonal Kronecker factors per group",
            Form::Hadamard => "diagonal factors per channel",
            Form::Switch => "two-entry factor and channel gradients",
            Form::Table => "row frequencies and diagonal factor",
        }
    }
}
