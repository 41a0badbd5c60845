//! A table and a readout of many words: what coverage counts, and that a step is a step.

use std::time::Instant;

use engine::{
    DType, Error, Likelihood, Parameter, Parameters, Result, Rng, Tape, Tensor, Var, parameters,
};
use nn::CrossEntropy;
use optim::{Batch, Newton, NewtonConfig, Optimizer, build, known};

/// Those with a window of vectors, which counts as it is.
const WINDOWS: [&str; 1] = ["lbfgs"];

/// A table, a hidden layer and a readout.
struct Words {
    table: Parameter,
    hidden: Parameter,
    readout: Parameter,
    bias: Parameter,
}
parameters!(Words { table, hidden, readout, bias });

impl Words {
    fn new(words: usize, width: usize, dtype: DType) -> Self {
        let mut rng = Rng::new(1);
        let mut noise = |rows, columns| {
            let scale = 1.0 / (columns as f64).sqrt();
            Parameter::new(Tensor::normal([rows, columns], 0.0, scale, dtype, &mut rng))
        };
        Self {
            table: noise(words, width),
            hidden: noise(width, width),
            readout: noise(words, width),
            bias: Parameter::new(Tensor::zeros([words], dtype)),
        }
    }

    fn forward(&self, tape: &Tape, tokens: &Tensor) -> Result<Var> {
        let x = tape.input(tokens.clone()).embedding(&tape.bind(&self.table))?;
        let x = x.linear(&tape.bind(&self.hidden), None)?.tanh()?;
        x.linear(&tape.bind(&self.readout), Some(&tape.bind(&self.bias)))
    }

    fn step(&mut self, optimizer: &mut dyn Optimizer, tokens: &Tensor) -> Result<f64> {
        let loss = CrossEntropy::new(tokens);
        let forward = |model: &Self, tape: &Tape| model.forward(tape, tokens);
        optimizer.minimize(&mut Batch::new(self, forward, &loss).training(0))
    }
}

fn tokens(words: usize, count: usize) -> Tensor {
    let all = (0..count).map(|i| ((i * i * 7919 + 13) % words) as i64);
    Tensor::from_vec(all.collect::<Vec<i64>>(), [count]).unwrap()
}

/// Adam's bytes of a model.
fn adams(model: &Words) -> f64 {
    build("adam", None).unwrap().coverage(model).state_bytes() as f64
}

/// Whether a refusal says how many bytes would be needed.
fn says_bytes(error: &Error) -> bool {
    matches!(error, Error::Argument { got, .. } if got.contains("bytes are needed"))
}

#[test]
fn no_optimizer_counts_three_of_adams_states_for_long_sides() {
    for dtype in [DType::F32, DType::F64] {
        let tokens = tokens(2100, 3);
        for name in known() {
            let (mut model, mut optimizer) =
                (Words::new(2100, 8, dtype), build(name, None).unwrap());
            let before = optimizer.coverage(&model).state_bytes() as f64 / adams(&model);
            match model.step(&mut *optimizer, &tokens) {
                Ok(loss) => assert!(loss.is_finite(), "{name}"),
                Err(error) => assert!(says_bytes(&error), "{name}: {error}"),
            }
            let coverage = optimizer.coverage(&model);
            let after = coverage.state_bytes() as f64 / adams(&model);
            let most = if WINDOWS.contains(&name) { f64::INFINITY } else { 3.0 };
            assert!(before < most && after < most, "{name}: {before} and {after}\n{coverage}");
        }
    }
}

#[test]
fn coverage_counts_for_a_model_that_no_memory_holds() {
    // 4 TiB of parameters, of which there are only the shapes.
    let shapes = |shape: [usize; 2]| Parameter::new(Tensor::meta(shape, DType::F32));
    let model = Words {
        table: shapes([1 << 30, 512]),
        hidden: shapes([512, 512]),
        readout: shapes([1 << 30, 512]),
        bias: Parameter::new(Tensor::meta([1 << 30], DType::F32)),
    };
    for name in known() {
        let coverage = build(name, None).unwrap().coverage(&model);
        assert_eq!(coverage.lines.len(), 4, "{name}");
        let kept = coverage.state_bytes() as f64 / adams(&model);
        assert!(kept < 3.0 || WINDOWS.contains(&name), "{name}: {kept}");
    }
}

#[test]
fn what_is_counted_before_the_first_step_is_what_is_kept_after_it() {
    let (tokens, dtype) = (tokens(2100, 8), DType::F32);
    for name in ["adam", "nadam", "schedule-free", "soap", "splus", "kl-shampoo", "psgd", "shampoo"]
    {
        let (mut model, mut optimizer) = (Words::new(2100, 8, dtype), build(name, None).unwrap());
        let counted = optimizer.coverage(&model);
        model.step(&mut *optimizer, &tokens).unwrap();
        assert_eq!(optimizer.coverage(&model), counted, "{name}");
        let saved: usize =
            optimizer.state(&model).unwrap().tensors.values().map(Tensor::bytes).sum();
        assert_eq!(saved, counted.state_bytes(), "{name}");
    }
}

#[test]
fn coverage_says_which_side_is_whole_and_which_a_diagonal() {
    let tokens = tokens(2100, 8);
    let both = "diagonal 2100 ⊗ 8";
    for (name, readout) in [
        ("soap", both),
        ("splus", both),
        ("kl-shampoo", both),
        ("psgd", both),
        ("shampoo", both),
        ("kfac", "diagonal 2100 ⊗ 9"),
        ("kfac-adaptive", "diagonal 2100 ⊗ 9"),
        ("ekfac", "diagonal 2100 ⊗ 9"),
        ("skfac", "diagonal 2100 ⊗ 9"),
        ("mkor", "diagonal 2100 ⊗ 9"),
        ("singd", "diagonal 2100 ⊗ 9"),
        ("ikfac", "diagonal 2100 ⊗ 9"),
        ("tnt", "diagonal 2100 ⊗ 9"),
        ("foof", "inputs' second moment, 9"),
    ] {
        let (mut model, mut optimizer) =
            (Words::new(2100, 8, DType::F32), build(name, None).unwrap());
        model.step(&mut *optimizer, &tokens).unwrap();
        let coverage = optimizer.coverage(&model);
        assert!(coverage.lines[2].rule.contains(readout), "{name}\n{coverage}");
        let short = if name == "foof" { "8" } else { "8 ⊗ 8" };
        assert!(coverage.lines[1].rule.contains(short), "{name}\n{coverage}");
        assert!(!coverage.lines[1].rule.contains("diagonal"), "{name}\n{coverage}");
    }
}

#[test]
fn a_matrix_of_all_parameters_is_refused_with_its_bytes_before_anything_is_evaluated() {
    let (mut model, tokens) = (Words::new(300, 4, DType::F64), tokens(300, 4));
    let numbers: usize = model.parameters().iter().map(|(_, p)| p.value().numel()).sum();
    for (config, matrices) in [(NewtonConfig::default(), 2), (NewtonConfig::saddle_free(), 3)] {
        let needed = numbers * numbers * 8 * matrices;
        let mut refused = |most_bytes| {
            let mut newton = Newton::new(NewtonConfig { most_bytes, ..config }).unwrap();
            let loss = Unasked(CrossEntropy::new(&tokens));
            let forward = |model: &Words, tape: &Tape| model.forward(tape, &tokens);
            newton.minimize(&mut Batch::new(&mut model, forward, &loss)).unwrap_err()
        };
        let error = refused(needed - 1);
        assert!(says_bytes(&error) && error.to_string().contains(&needed.to_string()), "{error}");
    }
}

/// A loss that must not be asked for.
struct Unasked(CrossEntropy);

impl Likelihood for Unasked {
    fn terms(&self) -> usize {
        self.0.terms()
    }
    fn nll(&self, _: &Var) -> Result<Var> {
        panic!("the loss has been evaluated")
    }
    fn sampled_seed(&self, x: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        self.0.sampled_seed(x, rng)
    }
    fn exact_seeds(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        self.0.exact_seeds(x)
    }
}

#[test]
fn threads_do_not_change_a_step_of_long_sides() {
    let (words, width) = (2100, 64);
    let tokens = tokens(words, 40);
    for name in ["soap", "eshampoo", "splus", "kl-shampoo", "psgd", "ekfac", "adafisher-band"] {
        let run = |threads| -> Vec<u64> {
            let train = || {
                let mut model = Words::new(words, width, DType::F32);
                let mut optimizer = build(name, None).unwrap();
                for _ in 0..3 {
                    model.step(&mut *optimizer, &tokens).unwrap();
                }
                let state = optimizer.state(&model).unwrap().tensors;
                let parameters = model.parameters().into_iter().map(|(_, p)| p.value().clone());
                let all: Vec<Tensor> = parameters.chain(state.into_values()).collect();
                all.iter().flat_map(|x| x.to_f64_vec().unwrap()).map(f64::to_bits).collect()
            };
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(train)
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3), "{name}");
    }
}

/// Steps that are timed: a renewal of roots and bases among them, for by default they come every tenth.
const PERIOD: usize = 10;

/// Seconds of whole steps: forward pass, backward passes and update.
struct Seconds {
    /// The median of the timed steps: a step without anything that is done now and then.
    plain: f64,
    /// Their mean: with that.
    mean: f64,
}

impl Seconds {
    /// A step that begins, and then a period.
    fn of(model: &mut Words, optimizer: &mut dyn Optimizer, tokens: &Tensor) -> Result<Self> {
        model.step(optimizer, tokens)?;
        let mut times = Vec::new();
        for _ in 0..PERIOD {
            let start = Instant::now();
            model.step(optimizer, tokens)?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let mean = times.iter().sum::<f64>() / PERIOD as f64;
        Ok(Self { plain: f64::midpoint(times[(PERIOD - 1) / 2], times[PERIOD / 2]), mean })
    }
}

#[test]
#[ignore = "a table of 50,257 words for every optimizer: minutes"]
fn the_table_of_a_language_model_is_covered_by_every_optimizer() {
    let (words, width) = (50_257, 64);
    let tokens = tokens(words, 32);
    println!(
        "Whole steps (forward, backward, update) of {words} x {width}, f32, 32 tokens, over Adam's"
    );
    println!(
        "whole step, which is timed anew beside each. Plain: the median of {PERIOD}; mean: with"
    );
    println!("what is done at every tenth.");
    println!(
        "{:22} {:>12} {:>7} {:>7} {:>9} {:>12}",
        "", "state/Adam's", "plain", "mean", "Adam, s", "coverage, s"
    );
    for name in known() {
        let fresh = || Words::new(words, width, DType::F32);
        let mut adam = build("adam", None).unwrap();
        let adam = Seconds::of(&mut fresh(), &mut *adam, &tokens).unwrap().plain;
        let (mut model, mut optimizer) = (fresh(), build(name, None).unwrap());
        let start = Instant::now();
        optimizer.coverage(&model);
        let coverage = start.elapsed().as_secs_f64();
        let (plain, mean) = match Seconds::of(&mut model, &mut *optimizer, &tokens) {
            Ok(time) => (format!("{:.1}", time.plain / adam), format!("{:.1}", time.mean / adam)),
            Err(error) => {
                assert!(says_bytes(&error), "{name}: {error}");
                ("refused".into(), String::new())
            }
        };
        let state = optimizer.coverage(&model).state_bytes() as f64 / adams(&model);
        println!("{name:22} {state:12.2} {plain:>7} {mean:>7} {adam:9.3} {coverage:12.6}");
        assert!(state < 3.0 || WINDOWS.contains(&name), "{name}: {state}");
    }
}

#[test]
#[ignore = "sides of 2,000, whole: a minute"]
fn a_long_thin_matrix_below_the_limit_takes_a_step() {
    let tokens = tokens(2000, 64);
    for name in [
        "adam",
        "psgd",
        "ekfac",
        "singd",
        "ikfac",
        "soap",
        "splus",
        "kl-shampoo",
        "shampoo",
        "kfac",
        "foof",
        "skfac",
        "mkor",
        "tnt",
    ] {
        let (mut model, mut optimizer) =
            (Words::new(2000, 8, DType::F32), build(name, None).unwrap());
        let mut times = Vec::new();
        for _ in 0..11 {
            let start = Instant::now();
            assert!(model.step(&mut *optimizer, &tokens).unwrap().is_finite(), "{name}");
            times.push(start.elapsed().as_secs_f64());
        }
        let mean = times[1..].iter().sum::<f64>() / 10.0;
        println!("{name:22} first {:8.3} s, mean of the next ten {mean:8.3} s", times[0]);
    }
}

#[test]
#[ignore = "ResNet-50 for every optimizer: only counted, but its parameters are there"]
fn a_resnet_50_is_counted_by_every_optimizer() {
    let model =
        nn::models::resnet::ResNetConfig::of_depth(50).unwrap().build(&mut Rng::new(0)).unwrap();
    let bytes = |name| build(name, None).unwrap().coverage(&model).state_bytes() as f64;
    for name in known() {
        println!(
            "{name:22} {:8.0} MB, {:6.2} of Adam's",
            bytes(name) / 1e6,
            bytes(name) / bytes("adam")
        );
    }
}
