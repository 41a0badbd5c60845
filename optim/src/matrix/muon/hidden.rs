//! `Muon`: the rule, for the matrices that it is for. Jordan et al. 2024.

use std::collections::BTreeMap;

use engine::{Device, Gradients, ParamId, Parameter, Parameters, Result, Tensor};

use super::roles::{Role, Roles};
use super::{Matrices, MuonConfig, sides};
use crate::frame::moments::check_gradients;
use crate::frame::per_parameter::{PerParameter, Rule as _};
use crate::optimizer::coverage::Coverage;
use crate::{CurvatureSource, Optimizer, State};

/// Muon, with AdamW for what is no hidden matrix.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Muon, MuonConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[0.0; 4], [2, 2])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[9.0, 0.0, 0.0, -1.0], [2, 2])?);
/// let config = MuonConfig { rate: 1.0, iterations: 60, quintic: alcyon_optim::CONVERGENT,
///     ..MuonConfig::default() };
/// Muon::new(config)?.step(&mut weight, &grads)?;
/// let moved = weight.value().to_vec::<f64>()?; // U Vᵀ of the gradient
/// assert!((moved[0] + 1.0).abs() < 1e-9 && (moved[3] - 1.0).abs() < 1e-9);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Muon {
    /// Its `auxiliary` has the declared parameters and those that have been decided.
    inner: PerParameter<MuonConfig>,
    roles: Roles,
    /// Matrices that have begun, and why with AdamW.
    decided: BTreeMap<ParamId, Option<Role>>,
}

impl Muon {
    /// Muon with these constants.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when one is outside its range.
    pub fn new(config: MuonConfig) -> Result<Self> {
        let roles = Roles::new(config.matrices == Matrices::Hidden);
        Ok(Self { inner: PerParameter::new(config)?, roles, decided: BTreeMap::new() })
    }

    /// The constants. A matrix that has turned out to be no hidden one is among the `auxiliary`.
    #[must_use]
    pub const fn config(&self) -> &MuonConfig {
        self.inner.config()
    }

    /// What is kept for a parameter under a name, if it has taken a step.
    #[must_use]
    pub fn kept(&self, parameter: &Parameter, name: &str) -> Option<&Tensor> {
        self.inner.kept(parameter, name)
    }

    /// What a matrix is that is not to be made orthogonal.
    fn other_role(&self, parameter: &Parameter) -> Option<Role> {
        let id = parameter.id();
        if let Some(decided) = self.decided.get(&id) {
            return *decided;
        }
        if self.config().matrices == Matrices::All || !self.roles.any() {
            return None;
        }
        let role = self.roles.of(id).unwrap_or(Role::Outside("nothing that was seen"));
        Some(role).filter(|role| *role != Role::Hidden)
    }

    /// What every matrix that is about to take its first step is, for good.
    fn decide(&mut self, model: &dyn Parameters, grads: &Gradients) {
        for (_, parameter) in model.parameters() {
            let matrix = sides(parameter.value().shape()).is_some();
            let steps = parameter.is_trainable() && grads.of(parameter).is_some();
            if matrix && steps && !self.decided.contains_key(&parameter.id()) {
                let role = self.other_role(parameter);
                self.settle(parameter, role);
            }
        }
        self.roles.due = self.config().matrices == Matrices::Hidden && self.is_undecided(model);
    }

    fn take_step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        self.decide(model, grads);
        self.inner.step_checked(model, grads)
    }

    /// Whether there is a matrix of which it is not known what it is: frozen, or not used, so far.
    fn is_undecided(&self, model: &dyn Parameters) -> bool {
        let matrix = |p: &Parameter| sides(p.value().shape()).is_some();
        let all = model.parameters();
        all.iter().any(|(_, p)| matrix(p) && !self.decided.contains_key(&p.id()))
    }

    fn settle(&mut self, parameter: &Parameter, role: Option<Role>) {
        self.decided.insert(parameter.id(), role);
        if role.is_some() {
            self.inner.rule_mut().auxiliary.insert(parameter.id());
        }
    }
}

impl Optimizer for Muon {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn curvature(&mut self) -> Option<&mut dyn CurvatureSource> {
        (self.config().matrices == Matrices::Hidden).then_some(&mut self.roles as _)
    }

    fn runs_on(&self, device: Device) -> bool {
        self.inner.runs_on(device)
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        let before = (self.decided.clone(), self.config().auxiliary.clone(), self.roles.due);
        let done = self.take_step(model, grads);
        if done.is_ok() {
            self.roles.commit();
        } else {
            self.roles.discard();
            (self.decided, self.inner.rule_mut().auxiliary, self.roles.due) = before;
        }
        done
    }

    /// Without the declared and decided parameters: identities are others in another process.
    fn options(&self) -> String {
        let auxiliary = std::collections::BTreeSet::new();
        format!("{:?}", MuonConfig { auxiliary, ..self.config().clone() })
    }

    fn rate(&self) -> f64 {
        self.inner.rate()
    }

    fn set_rate(&mut self, rate: f64) {
        self.inner.set_rate(rate);
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        let mut coverage = self.inner.coverage(model);
        let lines = coverage.lines.iter_mut().zip(model.parameters());
        for (line, (_, parameter)) in lines.filter(|(_, (_, p))| p.is_trainable()) {
            let matrix = sides(parameter.value().shape()).is_some();
            let unknown = !self.decided.contains_key(&parameter.id()) && !self.roles.any();
            if let Some(role) = self.other_role(parameter).filter(|_| matrix) {
                line.rule = format!(
                    "AdamW, being {}: {}",
                    role.words(),
                    self.config().adam.words(parameter)
                );
            } else if matrix && self.config().matrices == Matrices::Hidden && unknown {
                line.rule += ", if the first pass shows a hidden matrix";
            }
        }
        coverage
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        self.inner.state(model)
    }

    /// A matrix of which a state has Adam's moments gets AdamW from there on, and one with a momentum does not.
    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let declared = self.config().auxiliary.clone();
        let mut decided = BTreeMap::new();
        for (path, parameter) in model.parameters() {
            let id = parameter.id();
            let matrix = sides(parameter.value().shape()).is_some();
            let steps = state.numbers.get(&format!("{path}/steps"));
            if !matrix || steps.is_none_or(|steps| steps == "0") {
                continue;
            }
            let adam = state.tensors.contains_key(&format!("{path}/m"));
            let known = self.decided.get(&id).copied().flatten().or(self.roles.of(id));
            let role = known
                .filter(|role| *role != Role::Hidden)
                .unwrap_or(Role::Outside("a saved state"));
            decided.insert(id, adam.then_some(role));
            match adam {
                true => self.inner.rule_mut().auxiliary.insert(id),
                false => self.inner.rule_mut().auxiliary.remove(&id),
            };
        }
        if let Err(error) = self.inner.load_state(model, state) {
            self.inner.rule_mut().auxiliary = declared;
            return Err(error);
        }
        self.decided = decided;
        self.roles.due = self.config().matrices == Matrices::Hidden && self.is_undecided(model);
        Ok(())
    }
}
