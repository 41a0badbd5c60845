//! Adaptive K-FAC on small batches of new data: it holds, or says that it does not.

use engine::{
    DType, Error, Likelihood as _, Parameter, Result, Rng, Tape, Tensor, Var, parameters,
};
use nn::CrossEntropy;
use nn::data::Loader;
use optim::{AdaptiveKfac, AdaptiveKfacConfig, Batch, Optimizer};

/// A perceptron of 10 inputs, 32 hidden units and 3 classes.
struct Mlp {
    first: Parameter,
    first_bias: Parameter,
    second: Parameter,
    second_bias: Parameter,
}
parameters!(Mlp { first, first_bias, second, second_bias });

impl Mlp {
    fn new(rng: &mut Rng) -> Self {
        let mut fresh = |shape: [usize; 2]| {
            let scale = (1.0 / shape[1] as f64).sqrt();
            Parameter::new(Tensor::normal(shape, 0.0, scale, DType::F32, rng))
        };
        let (first, second) = (fresh([32, 10]), fresh([3, 32]));
        let zeros = |n: usize| Parameter::new(Tensor::zeros([n], DType::F32));
        Self { first, first_bias: zeros(32), second, second_bias: zeros(3) }
    }

    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let bind = |p| tape.bind(p);
        let hidden =
            tape.input(x.clone()).linear(&bind(&self.first), Some(&bind(&self.first_bias)))?;
        hidden.tanh()?.linear(&bind(&self.second), Some(&bind(&self.second_bias)))
    }
}

/// Inputs, and labels of which one in five is any.
fn data(rows: usize, rng: &mut Rng) -> (Tensor, Tensor) {
    let x = Tensor::normal([rows, 10], 0.0, 1.0, DType::F32, rng);
    let noise = Tensor::uniform([rows, 2], 0.0, 1.0, DType::F64, rng).to_f64_vec().unwrap();
    let values = x.to_f64_vec().unwrap();
    let label = |(row, noise): (&[f64], &[f64])| match noise[0] < 0.2 {
        true => (3.0 * noise[1]) as i64,
        false => i64::from(row[0] + row[1] * row[2] > 0.0) + i64::from(row[3] > 0.5),
    };
    let labels: Vec<i64> = values.chunks(10).zip(noise.chunks(2)).map(label).collect();
    (x, Tensor::from_vec(labels, [rows]).unwrap())
}

#[test]
fn adaptive_kfac_holds_on_plain_batches_of_sixteen_rows_or_says_that_it_diverges() {
    for seed in 0..3 {
        let rng = &mut Rng::new(seed);
        let mut model = Mlp::new(rng);
        let held_out = data(512, rng);
        let judge = |model: &Mlp| {
            let logits = model.logits(&Tape::off(), &held_out.0).unwrap();
            CrossEntropy::new(&held_out.1).nll(&logits).unwrap().item().unwrap()
        };
        let before = judge(&model);
        let config = AdaptiveKfacConfig { seed, ..AdaptiveKfacConfig::default() };
        let mut kfac = AdaptiveKfac::new(config).unwrap();
        let mut worst = before;
        for at in 0..600 {
            let (x, y) = data(16, rng);
            let loss = CrossEntropy::new(&y);
            let forward = |model: &Mlp, tape: &Tape| model.logits(tape, &x);
            match kfac.minimize(&mut Batch::new(&mut model, forward, &loss)) {
                Ok(_) => {}
                Err(Error::Diverged { .. }) => panic!("says so at step {at}, from {before}"),
                Err(error) => panic!("{error}"),
            }
            if at % 50 == 49 {
                worst = worst.max(judge(&model));
            }
        }
        assert!(worst < 1.5 * before, "from {before} to {worst} without a word");
    }
}

#[test]
fn on_iris_it_ends_below_where_it_began_however_long_it_trains() {
    for seed in 0..3 {
        let (data, held_out) = nn::data::iris().unwrap();
        let mut model = nn::Mlp::new(&[4, 16, 3], &mut Rng::new(seed));
        let mut kfac = optim::build("kfac-adaptive", None).unwrap();
        let task = train::Supervised::classification();
        let plan = train::Plan { budget: train::Budget::epochs(150), ..train::Plan::default() };
        let mut losses = Vec::new();
        let mut listen = |event: &train::Event<'_>| {
            if let train::Event::Evaluated { evaluation, .. } = event {
                losses.push(evaluation.loss);
            }
            Ok(())
        };
        let batches = train::Shuffled::new(Loader::new(&data, 16).unwrap(), seed);
        let trainer = train::Trainer::new(&mut model, &mut *kfac, &task, plan).unwrap();
        let held_out = Loader::new(&held_out, 64).unwrap();
        trainer.observe(&mut listen).run(&batches, &held_out).unwrap();
        let worst = losses.iter().copied().fold(0.0, f64::max);
        let last = losses.last().unwrap();
        println!("{seed}: {} to {last}, at worst {worst}", losses[0]);
        assert!(worst < 1.5 && *last < 0.6, "{losses:?}");
    }
}
