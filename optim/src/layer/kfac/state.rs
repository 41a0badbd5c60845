//! Saving and resuming K-FAC, bit by bit: factors, inverses (they may be older than the factors),
//! updates, the rate, the number of steps and the generator. Factors of micro-batches without a step yet are
//! not part of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use engine::{DType, Error, Parameter, Parameters, Result, Rng, Shape};

use super::{Kfac, KfacConfig};
use crate::algebra::pattern::Pattern;
use crate::curvature::block::block_inverse::BlockInverse;
use crate::curvature::block::kronecker::Kronecker;
use crate::curvature::block::precondition::{DampedInverse, Half};
use crate::curvature::form::Form;
use crate::curvature::form::{Kind, Reduction};
use crate::frame::saved::{Saved, bias_at, refused};
use crate::{LongSides, State};

const FORMS: [(Form, &str); 4] = [
    (Form::Dense, "dense"),
    (Form::Transposed, "transposed"),
    (Form::Lookup, "lookup"),
    (Form::ScaleShift, "scale_shift"),
];

const PLANNED: &str = "factors kept by the plan configured (sides and budget)";

/// The name of a block of all numbers together.
const JOINT: &str = "joint";

impl Kfac {
    pub(super) fn save(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: "kfac".into(), ..State::default() };
        state.numbers.insert("rate".into(), self.config.rate.to_string());
        state.numbers.insert("steps".into(), self.factors.steps.to_string());
        state
            .numbers
            .insert("generator".into(), joined(&self.factors.notes.committed().rng.state()));
        state.numbers.insert("plan".into(), self.config.plan());
        self.updates.save(model, &mut state);
        let (parameters, bad) = (model.parameters(), self.factors.bad()?);
        for (path, param) in &parameters {
            if let Some(entry) = self.factors.entries.get(&param.id()).filter(|e| e.updates > 0) {
                let average = &entry.average;
                let form = FORMS.iter().find(|(form, _)| *form == average.form);
                let mut put = |key, text| state.numbers.insert(format!("{path}/{key}"), text);
                put("form", form.map_or(JOINT, |(_, name)| name).to_owned());
                put("groups", average.groups.to_string());
                put("inputs", average.inputs.to_string());
                put("outputs", average.outputs.to_string());
                put("batches", entry.updates.saturating_sub(bad).to_string());
                let bias = parameters.iter().find(|(_, p)| Some(p.id()) == average.bias);
                if let Some((bias, _)) = bias {
                    put("bias", bias.clone());
                }
                for (key, values) in ["a", "g"].into_iter().zip(entry.now()?) {
                    state.tensors.insert(format!("{path}/{key}"), values);
                }
            }
            if let Some(inverse) = self.inverses.get(&param.id()) {
                save_inverse(path, inverse, &mut state)?;
                let failures = self.failures.get(&param.id()).copied().unwrap_or(0);
                state.numbers.insert(format!("{path}/failures"), failures.to_string());
            }
        }
        Ok(state)
    }

    pub(super) fn load(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open("kfac", state)?;
        let (rate, steps) = (saved.quantity("rate")?, saved.count("steps")?);
        let rng = Rng::from_state(numbers("generator", &saved.number::<String>("generator")?)?);
        let plan: String = saved.number("plan")?;
        // What is kept of each side is compared there.
        if plan.split(", ").last() != Some(self.config.planned_budget().as_str()) {
            return Err(refused(PLANNED, format!("{plan}, not {}", self.config.plan())));
        }
        let updates = self.updates.load(model, &mut saved)?;
        let mut blocks = Vec::new();
        for (path, param) in model.parameters() {
            if let Some(form) = saved.number_if_any::<String>(&format!("{path}/form"))? {
                let block = load_block(&mut saved, &path, &form, param, model)?;
                self.config.check_kept(&path, &block, param.value().shape())?;
                let updates = saved.count(&format!("{path}/batches"))?;
                let inverse = load_inverse(&mut saved, &path, &block, param.value().dtype())?;
                let failures: Option<u32> = saved.count_if_any(&format!("{path}/failures"))?;
                blocks.push((param.id(), block, updates, inverse.zip(failures)));
            }
        }
        saved.close(model)?;
        // Everything has been read and fits: from here on nothing fails.
        self.factors.clear();
        (self.config.rate, self.factors.steps, self.factors.notes.rng) = (rate, steps, rng);
        self.factors.notes.commit();
        (self.updates, self.inverses, self.failures) = (updates, BTreeMap::new(), BTreeMap::new());
        for (weight, block, updates, inverse) in blocks {
            self.factors.restore(weight, block, updates);
            if let Some((inverse, failures)) = inverse {
                self.inverses.insert(weight, inverse);
                self.failures.insert(weight, failures);
            }
        }
        Ok(())
    }
}

impl KfacConfig {
    /// What decides which entries of the factors are kept.
    fn plan(&self) -> String {
        let block = Some(self.sides.block).filter(|block| *block < LongSides::LONGEST);
        format!("block {}, {}", or_none(block), self.planned_budget())
    }

    fn planned_budget(&self) -> String {
        format!("budget {}", or_none(self.budget))
    }

    /// Refuses factors of which another part is kept than the rule says (or a budget may choose).
    fn check_kept(&self, path: &str, block: &Kronecker, shape: &Shape) -> Result<()> {
        if matches!(block.form, Form::Joint { .. }) && self.budget.is_some() {
            return Ok(());
        }
        let kept = |kind| {
            let reduction = Reduction { share: self.share, kind, sides: self.sides };
            reduction.patterns_of(shape, block.bias.is_some(), (block.form, block.groups))
        };
        let (found, expected) = ((&block.inputs, &block.outputs), kept(Kind::Block));
        let diagonal = self.budget.map(|_| kept(Kind::Diagonal));
        let fits = |(inputs, outputs): &(Pattern, Pattern)| found == (inputs, outputs);
        if fits(&expected) || diagonal.is_some_and(|kept| fits(&kept)) {
            return Ok(());
        }
        let got =
            format!("`{path}`: {} and {}, not {} and {}", found.0, found.1, expected.0, expected.1);
        Err(refused(PLANNED, got))
    }
}

fn or_none(x: Option<usize>) -> String {
    x.map_or_else(|| "none".to_owned(), |x| x.to_string())
}

fn load_block(
    saved: &mut Saved,
    path: &str,
    form: &str,
    param: &Parameter,
    model: &dyn Parameters,
) -> Result<Kronecker> {
    let groups: usize = saved.number(&format!("{path}/groups"))?;
    let bias = match saved.number_if_any::<String>(&format!("{path}/bias"))? {
        None => None,
        Some(bias) => Some(bias_at(model, &bias)?.id()),
    };
    let inputs: Pattern = saved.number(&format!("{path}/inputs"))?;
    let outputs: Pattern = saved.number(&format!("{path}/outputs"))?;
    let (shape, groups) = (param.value().shape(), groups.max(1));
    let first = shape.first().copied().unwrap_or(1);
    if !first.is_multiple_of(groups) || groups > first.max(1) {
        return Err(refused("groups that divide the weight", format!("{groups} of `{path}`")));
    }
    let width = shape.numel().checked_div(first).unwrap_or(0);
    let known = FORMS.iter().find(|(_, name)| *name == form).map(|(form, _)| *form);
    let (form, n, m) = match known {
        Some(Form::Dense) => (Form::Dense, width + usize::from(bias.is_some()), first / groups),
        Some(Form::Transposed) => (Form::Transposed, first / groups, width),
        Some(Form::Lookup) => (Form::Lookup, first, width),
        Some(Form::ScaleShift) => (Form::ScaleShift, 0, first),
        _ if form == JOINT => {
            let all = model.parameters();
            let beside = all.iter().find(|(_, p)| Some(p.id()) == bias);
            let biases = beside.map_or(0, |(_, p)| p.value().numel());
            (Form::Joint { biases }, 0, shape.numel() + biases)
        }
        _ => {
            let names = FORMS.iter().map(|(_, name)| *name).chain([JOINT]);
            let (got, known) = (form.to_owned(), names.map(str::to_owned).collect());
            return Err(Error::Unknown { what: "form of a factor", got, known });
        }
    };
    if (inputs.size(), outputs.size()) != (n, m) {
        let got = format!("`{path}`: {inputs} and {outputs} for {n} inputs and {m} outputs");
        return Err(refused("factors of the layer's size", got));
    }
    let mut values =
        |key, kept: &Pattern| values(saved, &format!("{path}/{key}"), groups * kept.numbers());
    let (a, g) = (values("a", &inputs)?, values("g", &outputs)?);
    Ok(Kronecker { form, groups, bias, inputs, outputs, a, g })
}

fn save_inverse(path: &str, inverse: &BlockInverse, state: &mut State) -> Result<()> {
    let Range { start, end } = inverse.columns;
    let (numbers, tensors) = (&mut state.numbers, &mut state.tensors);
    numbers.insert(format!("{path}/columns"), joined(&[start, end]));
    for (k, group) in inverse.groups.iter().enumerate() {
        numbers.insert(format!("{path}/damping.{k}"), group.damping.to_string());
        for (side, half) in [("g", &group.g), ("a", &group.a)] {
            let kept = match (half.matrices.as_slice(), &half.eigenvalues) {
                ([_, ..], Some(_)) => "eigenvectors and eigenvalues",
                ([_, ..], None) => "inverse",
                ([], Some(_)) => "eigenvalues",
                ([], None) => "one",
            };
            numbers.insert(format!("{path}/inverse.{side}.{k}"), kept.to_owned());
            for (at, matrix) in half.matrices.iter().enumerate() {
                tensors.insert(format!("{path}/matrix.{side}.{k}.{at}"), matrix.clone());
            }
            if let Some(values) = &half.eigenvalues {
                tensors.insert(format!("{path}/eigenvalues.{side}.{k}"), values.clone());
            }
        }
    }
    Ok(())
}

fn load_inverse(
    saved: &mut Saved,
    path: &str,
    block: &Kronecker,
    dtype: DType,
) -> Result<Option<BlockInverse>> {
    let key = format!("{path}/columns");
    let Some(text) = saved.number_if_any::<String>(&key)? else { return Ok(None) };
    let [start, end]: [usize; 2] = numbers(&key, &text)?;
    if start > end {
        return Err(refused("a range of columns", format!("`{key}` = `{text}`")));
    }
    let columns = start..end;
    let one = Pattern::Diagonal(1);
    let within = |kept: &Pattern| kept.within(&(start..end.min(kept.size())));
    let (rows, width) = match block.form {
        Form::Dense => (block.outputs.clone(), within(&block.inputs)),
        Form::Transposed => (block.inputs.clone(), within(&block.outputs)),
        Form::Lookup => (block.inputs.clone(), block.outputs.clone()),
        Form::ScaleShift => (block.outputs.clone(), one),
        Form::Joint { .. } => (within(&block.outputs), one),
    };
    let mut groups = Vec::with_capacity(block.groups);
    for k in 0..block.groups {
        let damping = saved.quantity(&format!("{path}/damping.{k}"))?;
        let mut half = |side: &str, kept: &Pattern| {
            load_half(saved, path, &format!("{side}.{k}"), kept, dtype)
        };
        groups.push(DampedInverse { g: half("g", &rows)?, a: half("a", &width)?, damping });
    }
    Ok(Some(BlockInverse { columns, groups }))
}

fn load_half(
    saved: &mut Saved,
    path: &str,
    side: &str,
    pattern: &Pattern,
    dtype: DType,
) -> Result<Half> {
    let kept: String = saved.number(&format!("{path}/inverse.{side}"))?;
    let (matrices, eigenvalues) = match kept.as_str() {
        "eigenvectors and eigenvalues" => (true, true),
        "inverse" => (true, false),
        "eigenvalues" => (false, true),
        "one" => (false, false),
        _ => return Err(refused("a known kind of inverse", kept)),
    };
    let mut square = |(at, range): (usize, Range<usize>)| {
        let n = range.len();
        saved.tensor(&format!("{path}/matrix.{side}.{at}"), &[n, n].into(), dtype)
    };
    let ranges = if matrices { pattern.ranges() } else { Vec::new() };
    let matrices = ranges.into_iter().enumerate().map(&mut square).collect::<Result<_>>()?;
    let dim = pattern.size();
    let mut diagonal =
        || saved.tensor(&format!("{path}/eigenvalues.{side}"), &[dim].into(), DType::F64);
    let eigenvalues = eigenvalues.then(&mut diagonal).transpose()?;
    Ok(Half { matrices, eigenvalues, dim })
}

fn values(saved: &mut Saved, key: &str, n: usize) -> Result<Vec<f64>> {
    saved.tensor(key, &[n].into(), DType::F64)?.to_vec::<f64>()
}

/// Numbers separated by blanks.
fn joined<T: Display>(numbers: &[T]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn numbers<T: FromStr, const N: usize>(key: &str, text: &str) -> Result<[T; N]> {
    let all: Result<Vec<T>, _> = text.split(' ').map(str::parse).collect();
    let unreadable = || refused("numbers that can be read", format!("`{key}` = `{text}`"));
    all.ok().and_then(|all| all.try_into().ok()).ok_or_else(unreadable)
}
