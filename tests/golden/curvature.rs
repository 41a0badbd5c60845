//! `curvature_*`: exact curvature of a small network, entry by entry.
//!
//! The Hessian comes from differentiating the recorded gradient; the Gauss–Newton matrix and the
//! empirical Fisher from the layer records, as sums of per-example outer products:
//! GGN = 1/N Σ over examples and columns of the exact root, EF = 1/N Σ over examples.

use engine::{LayerRecord, Likelihood, Parameters, Tape, Tensor, Var};
use kernels::linalg;
use nn::CrossEntropy;
use optim::audit::gershgorin;
use optim::curvature::{GaussNewton, Hessian, Kronecker, Stop, solve};
use optim::{Batch, Fisher, KfacConfig, Newton, NewtonConfig, Optimizer};

use crate::document::{Array, Document, Node, Result, wrong};
use crate::expected::{Expected, line};
use crate::kfac::mlp;
use crate::kronecker::{Problem, per_example, plain, record_of};
use crate::network::Network;
use crate::report::{Comparison, Line};

/// A symmetric matrix, row-major.
struct Matrix {
    n: usize,
    data: Vec<f64>,
}

/// One line per matrix.
pub(crate) fn replay(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let other = match root.get("inputs")?.find("same_as") {
        Some(name) => Some(document.beside(name.text()?)?),
        None => None,
    };
    let source = other.as_ref().map_or_else(|| root.clone(), Document::root);
    let inputs = source.get("inputs")?;
    let (v, expected) = (root.get("inputs")?.get("v")?.array()?, Expected::of(&root)?);
    let loss = CrossEntropy::new(&inputs.get("labels")?.list()?.indices()?);
    let (network, x) = (|| mlp(&inputs), inputs.get("X")?.array()?.tensor()?);
    let problem = Problem { network: &network, x, loss: &loss };

    let mut lines = vec![line(file, "loss, gradient, Hessian · v", &root, |comparison| {
        let (value, gradient, products) =
            hessian_products(&problem, std::slice::from_ref(&v.data))?;
        comparison.number("loss", value, expected.number("loss")?)?;
        comparison.numbers("gradient", &gradient, &expected.array("gradient")?.data)?;
        comparison.numbers("Hv", &products[0], &expected.array("Hv")?.data)
    })];
    lines.push(line(file, "Hessian", &root, |comparison| {
        let n = v.data.len();
        let unit = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect();
        let units: Vec<Vec<f64>> = (0..n).map(unit).collect();
        let (_, _, columns) = hessian_products(&problem, &units)?;
        let hessian = Matrix { n, data: columns.concat() };
        compare(comparison, &hessian, &expected, ("H", "hessian"), None)
    }));
    lines.push(line(file, "Gauss–Newton", &root, |comparison| {
        let ggn = gauss_newton(&problem)?;
        compare(comparison, &ggn, &expected, ("GGN", "ggn"), Some(("GGNv", &v.data)))?;
        let gradient = expected.array("gradient")?;
        let newton = ggn.solve_damped(0.1, &gradient.data)?;
        let golden = expected.array("newton_direction_damped_0.1_ggn")?;
        comparison.numbers("newton direction", &newton, &golden.data)?;
        let mut network = (problem.network)()?;
        let before = flattened(&network)?;
        let forward = |network: &Network, tape: &Tape| network.outputs(tape, problem.x.clone());
        let config = NewtonConfig { damping: 0.1, adapt: false, ..NewtonConfig::default() };
        let mut optimizer = Newton::new(config)?;
        optimizer.minimize(&mut Batch::new(&mut network, forward, problem.loss))?;
        let steps = before.iter().zip(flattened(&network)?);
        let direction: Vec<f64> = steps.map(|(before, after)| before - after).collect();
        comparison.numbers("the optimizer's direction", &direction, &golden.data)
    }));
    lines.push(line(file, "empirical Fisher", &root, |comparison| {
        let (network, records) = problem.records()?;
        let examples = examples(&network, &records, loss.terms())?;
        let golden = expected.array("per_sample_gradients")?;
        comparison.numbers("per-example gradients", &examples.concat(), &golden.data)?;
        let fisher = Matrix::second_moment(&examples, examples.len());
        compare(comparison, &fisher, &expected, ("EF", "ef"), Some(("EFv", &v.data)))?;
        let gradient = expected.array("gradient")?;
        let natural = fisher.solve_damped(0.1, &gradient.data)?;
        let golden = expected.array("natural_gradient_ef_damped_0.1")?;
        comparison.numbers("natural gradient", &natural, &golden.data)
    }));
    lines.push(line(file, "K-FAC against its block", &root, |comparison| {
        kfac_error(comparison, &problem, &expected.get("kfac_relative_error_vs_ggn_block")?)?;
        let mass = off_diagonal_mass(&problem)?;
        comparison.number("offdiagonal_mass", mass, expected.number("offdiagonal_mass")?)
    }));
    lines.push(line(file, "products, conjugate gradients", &root, |comparison| {
        iterations(comparison, &problem, &expected, &v.data)
    }));
    lines.push(line(file, "Gershgorin", &root, |comparison| {
        let golden = expected.get("gershgorin_hessian")?;
        golden.only(&["lower", "upper"])?;
        let range = gershgorin(&expected.array("H")?.data, v.data.len());
        comparison.number("lower", *range.start(), golden.get("lower")?.number()?)?;
        comparison.number("upper", *range.end(), golden.get("upper")?.number()?)
    }));
    lines.extend(expected.rest(file)?);
    Ok(lines)
}

/// All parameters, one after the other.
fn flattened(network: &Network) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for (_, parameter) in network.parameters() {
        all.extend(parameter.value().to_f64_vec()?);
    }
    Ok(all)
}

/// H v and C v from products alone, and eight conjugate gradients on (C + 0.1 I) x = ∇L.
fn iterations(
    comparison: &mut Comparison,
    problem: &Problem<'_>,
    expected: &Expected<'_>,
    v: &[f64],
) -> Result<()> {
    let (network, tape) = ((problem.network)()?, Tape::new());
    let logits = network.forward(&tape, problem.x.clone())?;
    let loss = problem.loss.nll(&logits)?;
    let hv = Hessian::new(&tape, &loss)?.times(&network, v)?;
    comparison.numbers("H v", &hv, &expected.array("Hv")?.data)?;
    let ggn = GaussNewton::new(&tape, &logits, problem.loss)?;
    comparison.numbers("C v", &ggn.times(&network, v)?, &expected.array("GGNv")?.data)?;
    let golden = expected.get("cg_8_iterations")?;
    golden.only(&["x", "trace"])?;
    let product = |v: &[f64]| {
        let cv = ggn.times(&network, v)?;
        Ok(cv.iter().zip(v).map(|(cv, v)| cv + 0.1 * v).collect())
    };
    let (b, steps) = (expected.array("gradient")?.data, golden.get("trace")?.items()?);
    let stop = Stop { iterations: steps.len(), residual: 0.0, progress: 0.0 };
    let solution = solve(product, &b, vec![0.0; b.len()], &vec![1.0; b.len()], stop)?;
    comparison.numbers("x", &solution.x, &golden.get("x")?.array()?.data)?;
    for (i, (got, step)) in solution.path.iter().zip(&steps).enumerate() {
        step.only(&["alpha", "residual_norm", "quad_model"])?;
        for (name, got) in
            [("alpha", got.alpha), ("residual_norm", got.residual), ("quad_model", got.model)]
        {
            comparison.number(&format!("{name} of step {i}"), got, step.get(name)?.number()?)?;
        }
    }
    comparison.number("steps", solution.path.len() as f64, steps.len() as f64)
}

/// Loss, gradient and H v for each v, by differentiating ⟨gradient, v⟩.
fn hessian_products(
    problem: &Problem<'_>,
    vectors: &[Vec<f64>],
) -> Result<(f64, Vec<f64>, Vec<Vec<f64>>)> {
    let network = (problem.network)()?;
    let tape = Tape::new();
    let loss = problem.loss.nll(&network.forward(&tape, problem.x.clone())?)?;
    let recorded = tape.backward_recorded(&loss)?;
    let mut gradient = Vec::new();
    for (path, parameter) in network.parameters() {
        let Some(grad) = recorded.of(parameter) else { return wrong(format!("no ∂/∂{path}")) };
        gradient.extend(grad.to_f64_vec()?);
    }
    let mut products = Vec::new();
    for vector in vectors {
        let mut rest = vector.as_slice();
        let mut inner: Option<Var> = None;
        for (_, parameter) in network.parameters() {
            let Some(grad) = recorded.of(parameter) else { return wrong("no gradient") };
            let Some((part, tail)) = rest.split_at_checked(parameter.value().numel()) else {
                return wrong("v is too short");
            };
            rest = tail;
            let part = Var::constant(&Tensor::from_slice(part, *parameter.value().shape())?);
            let term = grad.mul(&part)?.sum_all()?;
            inner = Some(match inner {
                Some(sum) => sum.add(&term)?,
                None => term,
            });
        }
        let Some(inner) = inner else { return wrong("no parameters") };
        let second = tape.backward(&inner)?;
        let mut product = Vec::new();
        for (path, parameter) in network.parameters() {
            let Some(grad) = second.of(parameter) else {
                return wrong(format!("no ∂²/∂{path}"));
            };
            product.extend(grad.to_f64_vec()?);
        }
        products.push(product);
    }
    Ok((loss.item()?, gradient, products))
}

/// Per-example gradients over all parameters: W1 row by row, b1, W2 row by row, b2.
fn examples(network: &Network, records: &[LayerRecord], terms: usize) -> Result<Vec<Vec<f64>>> {
    let mut all: Vec<Vec<f64>> = Vec::new();
    for layer in ["1", "2"] {
        let record = record_of(network, records, layer)?;
        let width = record.weight_shape[1] + usize::from(record.bias.is_some());
        let gradients = per_example(record, terms)?;
        all.resize(gradients.len(), Vec::new());
        for (example, joint) in all.iter_mut().zip(gradients) {
            let weight =
                joint.iter().enumerate().filter(|(i, _)| i % width < record.weight_shape[1]);
            example.extend(weight.map(|(_, x)| x));
            let bias =
                joint.iter().enumerate().filter(|(i, _)| i % width >= record.weight_shape[1]);
            example.extend(bias.map(|(_, x)| x));
        }
    }
    Ok(all)
}

/// The gradients of all columns of the exact root, one set per class.
fn gauss_newton_columns(problem: &Problem<'_>) -> Result<(Network, Vec<Vec<LayerRecord>>)> {
    let (network, tape) = ((problem.network)()?, Tape::new());
    let logits = network.forward(&tape, problem.x.clone())?;
    let mut columns = Vec::new();
    for seed in problem.loss.exact_seeds(&logits.value())? {
        let mut records: Vec<LayerRecord> = Vec::new();
        tape.sweep(&logits, seed, &mut records)?;
        columns.push(records);
    }
    Ok((network, columns))
}

fn gauss_newton(problem: &Problem<'_>) -> Result<Matrix> {
    let terms = problem.loss.terms();
    let (network, columns) = gauss_newton_columns(problem)?;
    let mut all = Vec::new();
    for records in &columns {
        all.extend(examples(&network, records, terms)?);
    }
    Ok(Matrix::second_moment(&all, terms))
}

/// |G ⊗ A − block| / |block| in the Frobenius norm, per layer.
fn kfac_error(comparison: &mut Comparison, problem: &Problem<'_>, golden: &Node<'_>) -> Result<()> {
    golden.only(&["layer1", "layer2"])?;
    let step = problem.step(KfacConfig { fisher: Fisher::Exact, ..plain() }, None)?;
    let terms = problem.loss.terms();
    let (network, columns) = gauss_newton_columns(problem)?;
    for layer in ["1", "2"] {
        let mut all = Vec::new();
        for records in &columns {
            all.extend(per_example(record_of(&network, records, layer)?, terms)?);
        }
        let block = Matrix::second_moment(&all, terms);
        let product = kronecker_product(step.factors(layer)?);
        let error: f64 = block.data.iter().zip(&product).map(|(b, p)| (b - p) * (b - p)).sum();
        let size: f64 = block.data.iter().map(|b| b * b).sum();
        let name = format!("layer{layer}");
        comparison.number(&name, (error / size).sqrt(), golden.get(&name)?.number()?)?;
    }
    Ok(())
}

/// |block (1, 2)| / |Gauss–Newton matrix| in the Frobenius norm: what couples the layers, and what
/// K-FAC leaves out from the start.
fn off_diagonal_mass(problem: &Problem<'_>) -> Result<f64> {
    let matrix = gauss_newton(problem)?;
    let network = (problem.network)()?;
    let (weight, bias) = network.layer("1")?;
    let border = weight.value().numel() + bias.map_or(0, |b| b.value().numel());
    let squares = |keep: &dyn Fn(usize, usize) -> bool| -> f64 {
        let entries = matrix.data.iter().enumerate();
        entries.filter(|(i, _)| keep(i / matrix.n, i % matrix.n)).map(|(_, x)| x * x).sum()
    };
    let between = squares(&|i, j| i < border && j >= border);
    Ok((between / squares(&|_, _| true)).sqrt())
}

/// G ⊗ A, row-major.
fn kronecker_product(factors: &Kronecker) -> Vec<f64> {
    let (n, m) = (factors.inputs(), factors.outputs());
    let entry = |i: usize, j: usize| factors.g[i / n * m + j / n] * factors.a[i % n * n + j % n];
    (0..n * m).flat_map(|i| (0..n * m).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).collect()
}

/// A matrix, its diagonal, trace and eigenvalues, and its product with v.
fn compare(
    comparison: &mut Comparison,
    matrix: &Matrix,
    expected: &Expected<'_>,
    (name, prefix): (&str, &str),
    product: Option<(&str, &[f64])>,
) -> Result<()> {
    if expected.has(name) {
        comparison.numbers(name, &matrix.data, &expected.array(name)?.data)?;
    }
    let diagonal = matrix.diagonal();
    let golden = expected.array(&format!("{prefix}_diag"))?;
    comparison.numbers("diagonal", &diagonal, &golden.data)?;
    let trace = expected.number(&format!("{prefix}_trace"))?;
    comparison.number("trace", diagonal.iter().sum(), trace)?;
    let eigen =
        linalg::symmetric_eigen(&matrix.data, matrix.n).or_else(|e| wrong(e.to_string()))?;
    let golden: Array = expected.array(&format!("{prefix}_eigenvalues"))?;
    comparison.numbers("eigenvalues", &eigen.values, &golden.data)?;
    if let Some((name, v)) = product {
        comparison.numbers(name, &matrix.times(v), &expected.array(name)?.data)?;
    }
    Ok(())
}

impl Matrix {
    /// 1/N Σ x xᵀ
    fn second_moment(vectors: &[Vec<f64>], terms: usize) -> Self {
        let n = vectors.first().map_or(0, Vec::len);
        let mut data = vec![0.0; n * n];
        for x in vectors {
            for (row, a) in data.chunks_exact_mut(n.max(1)).zip(x) {
                row.iter_mut().zip(x).for_each(|(m, b)| *m += a * b / terms as f64);
            }
        }
        Self { n, data }
    }

    fn diagonal(&self) -> Vec<f64> {
        self.data.iter().step_by(self.n + 1).copied().collect()
    }

    fn times(&self, v: &[f64]) -> Vec<f64> {
        let rows = self.data.chunks_exact(self.n.max(1));
        rows.map(|row| row.iter().zip(v).map(|(m, x)| m * x).sum()).collect()
    }

    /// (M + λ I)⁻¹ v
    fn solve_damped(&self, lambda: f64, v: &[f64]) -> Result<Vec<f64>> {
        let mut damped = self.data.clone();
        damped.iter_mut().step_by(self.n + 1).for_each(|x| *x += lambda);
        let inverse =
            linalg::cholesky_inverse(&damped, self.n).or_else(|e| wrong(e.to_string()))?;
        Ok(Self { n: self.n, data: inverse }.times(v))
    }
}
