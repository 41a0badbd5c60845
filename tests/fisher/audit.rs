//! The audit: what theory says must be equal is, and every column is what it says it is.

use engine::{
    DType, Geometry, Likelihood, Parameter, Result, Tape, Tensor, Var, Window, parameters,
};
use optim::audit::{Audit, AuditConfig, LayerAudit, LayerOperator, Line, audit};
use optim::curvature::ExactBlock;
use optim::{AdaFisherConfig, Fisher};

use super::models::{
    Net, REORDERED, Softmax, Squared, assert_close, identity, noise, numbers, tanh,
};
use super::operator::recorded;

/// A distance is the root of a difference of squares: √(machine epsilon), times ten.
const ROOT_OF_EPSILON: f64 = 1e-7;

fn audited(net: &Net, x: &Tensor, loss: &dyn Likelihood, config: AuditConfig) -> Audit {
    let tape = Tape::new();
    let y = net.forward(&tape.input(x.clone())).unwrap();
    audit(net, &tape, &y, loss, x.shape()[0], config).unwrap()
}

fn line<'a>(layer: &'a LayerAudit, name: &str) -> &'a Line {
    let found = layer.lines.iter().find(|line| line.name == name);
    found.unwrap_or_else(|| panic!("{}: no line `{name}`", layer.path))
}

const KRONECKER: [&str; 4] = ["K-FAC, expand", "K-FAC, reduce", "EKFAC", "Shampoo²"];

fn assert_all_exact(report: &Audit) {
    assert_eq!(report.layers.len(), 3);
    for layer in &report.layers {
        for name in KRONECKER {
            let found = line(layer, name);
            assert!(found.distance.error < ROOT_OF_EPSILON, "{}: {found:?}", layer.path);
            assert!(found.distance.shape < ROOT_OF_EPSILON, "{}: {found:?}", layer.path);
            assert_close(&[found.cosine, found.aligned], &[1.0, 1.0], REORDERED, name);
            assert_close(
                &[found.damped.curvature, found.damped.spread],
                &[layer.damped.curvature, layer.damped.spread],
                REORDERED,
                name,
            );
        }
        assert!(line(layer, "diagonal").distance.error > 0.1);
        assert!(line(layer, "AdaFisher, thesis").distance.shape > 0.1);
    }
}

#[test]
fn kronecker_approximations_are_exact_in_a_deep_linear_net_with_squared_loss() {
    let net = Net::new(&[4, 3, 5, 2], identity);
    let (x, loss) = (noise([6, 4], 1), Squared(noise([6, 2], 2)));
    assert_all_exact(&audited(&net, &x, &loss, AuditConfig::default()));
}

#[test]
fn kronecker_approximations_are_exact_for_one_example() {
    let net = Net::new(&[4, 3, 5, 3], tanh);
    let (x, loss) = (noise([1, 4], 1), Softmax(vec![2]));
    for fisher in [Fisher::Empirical, Fisher::Sampled { draws: 1 }, Fisher::Exact] {
        let config = AuditConfig { fisher, ..AuditConfig::default() };
        assert_all_exact(&audited(&net, &x, &loss, config));
    }
    // Of one example and one sweep the block has rank one.
    let config = AuditConfig { fisher: Fisher::Empirical, ..AuditConfig::default() };
    assert!(audited(&net, &x, &loss, config).layers.iter().all(|layer| layer.rank == 1));
}

#[test]
fn steps_and_shares_are_those_of_matrices_that_are_written_out() {
    let net = Net::new(&[3, 4, 3], tanh);
    let (x, loss) = (noise([7, 3], 1), Softmax::labels(7, 3));
    for fisher in [Fisher::Empirical, Fisher::Exact] {
        let config = AuditConfig { fisher, damping: 0.03, ..AuditConfig::default() };
        let report = audited(&net, &x, &loss, config);
        let (tape, batch) = recorded(&x, &loss, fisher, |x| net.forward(x));
        drop(tape);
        let tape = Tape::new();
        let y = net.forward(&tape.input(x.clone())).unwrap();
        let gradients = tape.backward(&loss.nll(&y).unwrap()).unwrap();
        for (layer, found) in net.layers.iter().zip(&report.layers) {
            let own: Vec<&Parameter> = std::iter::once(&layer.weight).chain(&layer.bias).collect();
            let gradient: Vec<f64> =
                own.iter().flat_map(|p| numbers(gradients.of(p).unwrap())).collect();
            let exact = ExactBlock::new(&[&batch], &own).unwrap();
            let (f, n) = (exact.matrix(), exact.size());
            let solved = |shift: &dyn Fn(usize) -> f64, matrix: &[f64]| {
                let mut matrix = matrix.to_vec();
                (0..n).for_each(|i| matrix[i * n + i] += shift(i));
                kernels::linalg::solve(&matrix, n, &gradient, 1).unwrap()
            };
            let cosine = |x: &[f64], y: &[f64]| {
                let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
                dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
            };
            let step = solved(&|_| 0.03, &f);
            let diagonal = solved(&|i| f[i * n + i] + 0.03, &vec![0.0; n * n]);
            let line = |name| line(found, name);
            assert_close(
                &[line("diagonal").cosine],
                &[cosine(&diagonal, &step)],
                REORDERED,
                "step",
            );
            assert_close(&[line("gradient").cosine], &[cosine(&gradient, &step)], REORDERED, "g");
            let trace: f64 = f.iter().step_by(n + 1).sum();
            let share = trace / (trace + 0.03 * n as f64);
            for damped in [found.damped, line("diagonal").damped, line("EKFAC").damped] {
                assert_close(
                    &[damped.curvature],
                    &[share],
                    REORDERED,
                    "a rotation keeps the trace",
                );
            }
            let ekfac = line("EKFAC").distance;
            assert!((ekfac.error - ekfac.basis).abs() < ROOT_OF_EPSILON, "{ekfac:?}");
            assert_close(&[found.mean_curvature], &[trace / n as f64], REORDERED, "tr F / P");
            let nothing = line("gradient");
            assert_close(
                &[nothing.distance.error, nothing.damped.spread],
                &[1.0; 2],
                REORDERED,
                "0",
            );
            assert_eq!((nothing.damped.curvature, nothing.bytes), (0.0, 0));
        }
    }
}

#[test]
fn the_official_preset_is_mostly_lambda_and_the_thesis_is_not() {
    let net = Net::new(&[6, 8, 3], tanh);
    let (x, loss) = (noise([20, 6], 1), Softmax::labels(20, 3));
    let report = audited(&net, &x, &loss, AuditConfig::default());
    for layer in &report.layers {
        let official = line(layer, "AdaFisher, official");
        // A factor in [0, 1] settles at 1/115 of itself, so F is in [λ, λ + 1/115²].
        let highest = 1.0 + 1e3 / (115.0 * 115.0);
        assert!(official.damped.spread > 1.0 && official.damped.spread <= highest + 1e-9);
        assert!(official.damped.curvature < 0.05, "{official:?}");
        let thesis = line(layer, "AdaFisher, thesis");
        assert_close(&[thesis.damped.spread], &[1001.0], REORDERED, "F is in [λ, 1 + λ]");
        assert!(thesis.damped.curvature > 0.9, "{thesis:?}");
        for name in ["AdaFisher, paper", "AdaFisher, spring2024"] {
            assert_eq!(line(layer, name).damped.damping, 1e-3);
        }
        // 8 bytes for each input, with the bias's, and each output; K-FAC: both factors and inverses.
        let (n, m) = (layer.factors[0].1.size, layer.factors[1].1.size);
        assert_eq!(thesis.bytes, 8 * (n + m));
        assert_eq!(line(layer, "K-FAC, expand").bytes, 8 * 2 * (n * n + m * m));
        assert_eq!(line(layer, "K-FAC, expand, cut"), &renamed(line(layer, "K-FAC, expand")));
    }
}

/// The same numbers under the name of the factors that are cut.
fn renamed(whole: &Line) -> Line {
    Line { name: "K-FAC, expand, cut", ..whole.clone() }
}

#[test]
fn factors_cut_to_single_entries_are_the_product_of_the_diagonals() {
    let net = Net::new(&[4, 3, 3], tanh);
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let config = AuditConfig { block: 1, ..AuditConfig::default() };
    for layer in &audited(&net, &x, &loss, config).layers {
        let (cut, raw) = (line(layer, "K-FAC, expand, cut"), line(layer, "raw H·S"));
        // A bias goes with the last input, in a block of two.
        if layer.path != "layers.1.weight" {
            continue;
        }
        let of = |l: &Line| [l.distance.error, l.distance.shape, l.cosine, l.aligned];
        assert_close(&of(cut), &of(raw), REORDERED, "cut to single entries");
        assert!(cut.bytes < line(layer, "K-FAC, expand").bytes);
    }
}

#[test]
fn what_adafisher_divides_by_is_its_curvature_plus_its_damping() {
    let net = Net::new(&[4, 3], identity);
    let (x, loss) = (noise([5, 4], 1), Softmax::labels(5, 3));
    let (_tape, batch) = recorded(&x, &loss, Fisher::Empirical, |x| net.forward(x));
    let mut preset = optim::AdaFisher::new(AdaFisherConfig::thesis()).unwrap();
    let weight = &net.layers[0].weight;
    assert!(preset.curvature_and_damping(weight).is_none());
    batch.replay(optim::Optimizer::curvature(&mut preset).unwrap()).unwrap();
    preset.refresh();
    let (curvature, damping) = preset.curvature_and_damping(weight).unwrap();
    let sum: Vec<f64> = curvature.iter().map(|f| f + damping).collect();
    assert_eq!(sum, numbers(&preset.fisher(weight).unwrap().unwrap()));
}

/// A bit of everything: groups, norms, a table that is its own readout, a weight outside layers.
#[derive(Debug)]
struct Zoo {
    table: Parameter,
    scale: Parameter,
    kernel: Parameter,
    loose: Parameter,
}
parameters!(Zoo { table, scale, kernel, loose });

impl Zoo {
    fn forward(&self, words: &Var) -> Result<Var> {
        let tape = words.tape()?;
        let table = tape.bind(&self.table);
        let tokens = words.embedding(&table)?.rms_norm(Some(&tape.bind(&self.scale)), 0.1)?;
        let n = tokens.shape()[0];
        let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
        let images = tokens.reshape([n, 4, 4, 1])?;
        let images =
            images.conv2d(&tape.bind(&self.kernel), None, Geometry { window, groups: 2 })?;
        let loose = tape.bind(&self.loose);
        let mixed = images.reshape([n, 4, 4])?.tanh()?.linear(&loose, None)?;
        mixed.sum(&[1])?.matmul(&loose)?.linear(&table, None)
    }
}

#[test]
fn every_layer_is_audited_or_its_reason_is_given() {
    let zoo = Zoo {
        table: Parameter::new(noise([5, 4], 1)),
        scale: Parameter::new(noise([4], 2)),
        kernel: Parameter::new(noise([4, 2, 3, 3], 3)),
        loose: Parameter::new(noise([4, 4], 4)),
    };
    let words = Tensor::from_fn([3, 4], DType::I64, |i| (i * i % 5) as f64);
    let tape = Tape::new();
    let y = zoo.forward(&tape.input(words)).unwrap();
    let loss = Softmax::labels(3, 5);
    let report = audit(&zoo, &tape, &y, &loss, 3, AuditConfig::default()).unwrap();
    let kinds: Vec<(&str, &str)> =
        report.layers.iter().map(|l| (l.path.as_str(), l.kind)).collect();
    let expected =
        [("table", "embedding"), ("scale", "rms_norm"), ("kernel", "grouped convolution")];
    assert_eq!(kinds, expected);
    assert_eq!(report.left_out, [("loose".to_owned(), "used by matmul".to_owned())]);
    let names = |at: usize| report.layers[at].lines.iter().map(|l| l.name).collect::<Vec<_>>();
    assert!(!names(0).contains(&"K-FAC, expand"), "its two uses make different factors");
    assert!(names(0).contains(&"diagonal") && names(1).contains(&"AdaFisher, thesis"));
    let kernel = |name| line(&report.layers[2], name).distance;
    assert!(KRONECKER.iter().all(|name| kernel(name).basis <= 1.0));
    let ekfac = kernel("EKFAC");
    assert!((ekfac.error - ekfac.basis).abs() < ROOT_OF_EPSILON, "{ekfac:?}");
    assert!(ekfac.error < kernel("K-FAC, expand").error.min(1.0));
    let expand = kernel("K-FAC, expand");
    assert!((expand.basis - ekfac.basis).abs() < ROOT_OF_EPSILON, "one basis: {expand:?}");
}

#[test]
fn an_operator_of_another_size_or_no_damping_is_refused() {
    let net = Net::new(&[2, 2], identity);
    let (x, loss) = (noise([3, 2], 1), Softmax::labels(3, 2));
    let (tape, batch) = recorded(&x, &loss, Fisher::Empirical, |x| net.forward(x));
    let exact = ExactBlock::new(&[&batch], &[&net.layers[0].weight]).unwrap();
    let small = LayerOperator::diagonal(vec![1.0; 3]);
    assert!(small.distance(&exact).is_err() && small.times(&[1.0]).is_err());
    assert!(small.solve(-1.0, &[1.0; 3]).is_err());
    let y = net.forward(&tape.input(x)).unwrap();
    let config = AuditConfig { damping: 0.0, ..AuditConfig::default() };
    assert!(audit(&net, &tape, &y, &loss, 3, config).is_err());
}
