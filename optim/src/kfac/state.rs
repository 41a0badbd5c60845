//! Saving and resuming K-FAC, bit by bit: factors, inverses (they may be older than the factors),
//! updates, the rate, the number of steps and the generator. Factors of micro-batches without a step yet are
//! not part of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use engine::{DType, Error, ParamId, Parameter, Parameters, Result, Rng, Tensor};

use super::Kfac;
use crate::State;
use crate::curvature::block::BlockInverse;
use crate::curvature::factors::{Form, Kronecker};
use crate::curvature::precondition::{DampedInverse, Half};
use crate::saved::{Saved, refused};

const FORMS: [(Form, &str); 4] = [
    (Form::Dense, "dense"),
    (Form::Transposed, "transposed"),
    (Form::Lookup, "lookup"),
    (Form::ScaleShift, "scale_shift"),
];

impl Kfac {
    pub(super) fn save(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: "kfac".into(), ..State::default() };
        state.numbers.insert("rate".into(), self.config.rate.to_string());
        state.numbers.insert("steps".into(), self.factors.steps.to_string());
        state.numbers.insert("generator".into(), joined(&self.factors.rng.state()));
        self.updates.save(model, &mut state);
        let parameters = model.parameters();
        for (path, param) in &parameters {
            if let Some(entry) = self.factors.entries.get(&param.id()).filter(|e| e.updates > 0) {
                let average = &entry.average;
                let form = FORMS.iter().find(|(form, _)| *form == average.form);
                let mut put = |key, text| state.numbers.insert(format!("{path}/{key}"), text);
                put("form", form.map_or("", |(_, name)| name).to_owned());
                put("groups", average.groups.to_string());
                put("batches", entry.updates.to_string());
                let bias = parameters.iter().find(|(_, p)| Some(p.id()) == average.bias);
                if let Some((bias, _)) = bias {
                    put("bias", bias.clone());
                }
                for (key, values) in [("a", &average.a), ("g", &average.g)] {
                    state.tensors.insert(format!("{path}/{key}"), vector(values)?);
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
        let (rate, steps) = (saved.number("rate")?, saved.number("steps")?);
        let rng = Rng::from_state(numbers("generator", &saved.number::<String>("generator")?)?);
        let updates = self.updates.load(model, &mut saved)?;
        let mut blocks = Vec::new();
        for (path, param) in model.parameters() {
            if let Some(form) = saved.number_if_any::<String>(&format!("{path}/form"))? {
                let block = load_block(&mut saved, &path, &form, param, model)?;
                let updates = saved.number(&format!("{path}/batches"))?;
                let inverse = load_inverse(&mut saved, &path, &block, param.value().dtype())?;
                let failures: Option<u32> = saved.number_if_any(&format!("{path}/failures"))?;
                blocks.push((param.id(), block, updates, inverse.zip(failures)));
            }
        }
        saved.close(model)?;
        // Everything has been read and fits: from here on nothing fails.
        self.factors.clear();
        (self.config.rate, self.factors.steps, self.factors.rng) = (rate, steps, rng);
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

fn load_block(
    saved: &mut Saved,
    path: &str,
    form: &str,
    param: &Parameter,
    model: &dyn Parameters,
) -> Result<Kronecker> {
    let Some((form, _)) = FORMS.iter().find(|(_, name)| *name == form).copied() else {
        let known = FORMS.iter().map(|(_, name)| (*name).to_owned()).collect();
        return Err(Error::Unknown { what: "form of a factor", got: form.to_owned(), known });
    };
    let groups: usize = saved.number(&format!("{path}/groups"))?;
    let bias = match saved.number_if_any::<String>(&format!("{path}/bias"))? {
        None => None,
        Some(bias) => Some(identity(model, &bias)?),
    };
    let (shape, groups) = (param.value().shape(), groups.max(1));
    let first = shape.first().copied().unwrap_or(1);
    let width = shape.numel().checked_div(first).unwrap_or(0);
    let (a, g) = match form {
        Form::Dense => {
            let (n, m) = (width + usize::from(bias.is_some()), first / groups);
            (groups * n * n, groups * m * m)
        }
        Form::Transposed => {
            let (n, m) = (first / groups, width);
            (groups * n * n, groups * m * m)
        }
        Form::Lookup => (first, width * width),
        Form::ScaleShift => (0, groups * first),
    };
    let mut values = |key, n: usize| values(saved, &format!("{path}/{key}"), n);
    Ok(Kronecker { form, groups, bias, a: values("a", a)?, g: values("g", g)? })
}

fn identity(model: &dyn Parameters, path: &str) -> Result<ParamId> {
    let all = model.parameters();
    let found = all.iter().find(|(known, _)| known == path).map(|(_, param)| param.id());
    found.ok_or_else(|| Error::Unknown {
        what: "bias in the optimizer state",
        got: path.to_owned(),
        known: all.iter().map(|(known, _)| known.clone()).collect(),
    })
}

fn save_inverse(path: &str, inverse: &BlockInverse, state: &mut State) -> Result<()> {
    let Range { start, end } = inverse.columns;
    let (numbers, tensors) = (&mut state.numbers, &mut state.tensors);
    numbers.insert(format!("{path}/columns"), joined(&[start, end]));
    for (k, group) in inverse.groups.iter().enumerate() {
        numbers.insert(format!("{path}/damping.{k}"), group.damping.to_string());
        for (side, half) in [("g", &group.g), ("a", &group.a)] {
            let kept = match (&half.matrix, &half.eigenvalues) {
                (Some(_), Some(_)) => "eigenvectors and eigenvalues",
                (Some(_), None) => "inverse",
                (None, _) => "eigenvalues",
            };
            numbers.insert(format!("{path}/inverse.{side}.{k}"), kept.to_owned());
            if let Some(matrix) = &half.matrix {
                tensors.insert(format!("{path}/matrix.{side}.{k}"), matrix.clone());
            }
            if let Some(values) = &half.eigenvalues {
                tensors.insert(format!("{path}/eigenvalues.{side}.{k}"), vector(values)?);
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
    let (n, m) = (block.inputs(), block.outputs());
    let [start, end]: [usize; 2] = numbers(&key, &text)?;
    let columns = start..end;
    let (rows, width) = match block.form {
        Form::Dense => (m, end.min(n).saturating_sub(start)),
        Form::Transposed | Form::Lookup => (n, m),
        Form::ScaleShift => (m, 1),
    };
    let mut groups = Vec::with_capacity(block.groups);
    for k in 0..block.groups {
        let damping = saved.number(&format!("{path}/damping.{k}"))?;
        let g = load_half(saved, &format!("{path}/"), &format!(".g.{k}"), (rows, dtype))?;
        let a = load_half(saved, &format!("{path}/"), &format!(".a.{k}"), (width, dtype))?;
        groups.push(DampedInverse { g, a, damping });
    }
    Ok(Some(BlockInverse { columns, groups }))
}

fn load_half(
    saved: &mut Saved,
    path: &str,
    side: &str,
    (dim, dtype): (usize, DType),
) -> Result<Half> {
    let kept: String = saved.number(&format!("{path}inverse{side}"))?;
    let (matrix, eigenvalues) = match kept.as_str() {
        "eigenvectors and eigenvalues" => (true, true),
        "inverse" => (true, false),
        "eigenvalues" => (false, true),
        _ => return Err(refused("a known kind of inverse", kept)),
    };
    let mut square = || saved.tensor(&format!("{path}matrix{side}"), &[dim, dim].into(), dtype);
    let matrix = matrix.then(&mut square).transpose()?;
    let mut diagonal = || values(saved, &format!("{path}eigenvalues{side}"), dim);
    let eigenvalues = eigenvalues.then(&mut diagonal).transpose()?;
    Ok(Half { matrix, eigenvalues, dim })
}

fn vector(values: &[f64]) -> Result<Tensor> {
    Tensor::from_slice(values, [values.len()])
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
