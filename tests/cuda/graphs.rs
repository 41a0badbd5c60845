//! Training by captured passes: the numbers of passes made on a tape, bit for bit.

use alcyon::engine::Replay;

use super::*;

/// What draws, counts and averages: dropout, drop path and batch norm.
fn network() -> layer::Sequential {
    let rng = &mut Rng::new(3);
    let window = Window { padding: (1, 1), stride: (2, 2), ..Window::new((3, 3)) };
    layer::Sequential::new()
        .then(layer::Conv2d::new(1, 4, window, rng))
        .then(layer::BatchNorm2d::new(4))
        .then(layer::Relu)
        .then(layer::StochasticDepth::new(0.2))
        .then(layer::Flatten)
        .then(layer::Dropout::new(0.3))
        .then(layer::Linear::new(64, 10, rng))
}

/// Two epochs of two batches of 16 and one of 8: every number of the model, the losses, and the launches.
fn run(optimizer: &mut dyn Optimizer, plan: Plan, gpu: &Gpu) -> (Vec<f64>, Vec<f64>, u64) {
    let (train, test) = data::digits().unwrap();
    let few = |data: &data::Dataset, n| data.range(0, n).unwrap();
    let batches = Shuffled::new(Loader::new(&few(&train, 40), 16).unwrap().prefetch(1).on(GPU), 7);
    let held_out = Loader::new(&few(&test, 32), 32).unwrap().on(GPU);
    let (mut model, task) = (network(), Supervised::classification());
    model.to_device(GPU).unwrap();
    let (mut losses, before) = (Vec::new(), gpu.launches());
    let mut tell = |event: &Event<'_>| {
        if let Event::Stepped(step) = event {
            losses.push(step.loss);
        }
        Ok(())
    };
    let plan = Plan { budget: Budget::epochs(3), evaluate: Every::Epochs(2), ..plan };
    let trainer = Trainer::new(&mut model, optimizer, &task, plan).unwrap();
    trainer.observe(&mut tell).run(&batches, &held_out).unwrap();
    (numbers(&model), losses, gpu.launches() - before)
}

fn assert_alike(name: &str, plan: &Plan, gpu: &Gpu, make: impl Fn() -> Box<dyn Optimizer>) {
    let plain = run(&mut *make(), plan.clone(), gpu);
    let graph = run(&mut *make(), Plan { graph: true, ..plan.clone() }, gpu);
    assert_eq!((plain.0, plain.1), (graph.0, graph.1), "{name}");
    assert!(graph.2 < plain.2, "{name}: {} launches, {} without graphs", graph.2, plain.2);
}

#[test]
fn a_captured_pass_trains_as_the_tape_bit_for_bit() {
    let Some((gpu, _guard)) = emulated() else { return };
    let adam = || Box::new(Adam::new(AdamConfig::adamw()).unwrap()) as Box<dyn Optimizer>;
    assert_alike("adamw", &Plan::default(), &gpu, adam);
    // Factors from the tape at some steps; a look at every one.
    for every in [1, 2] {
        let config = AdaFisherConfig { rate: 1e-3, every, ..AdaFisherConfig::thesis() };
        assert_alike("adafisher", &Plan::default(), &gpu, || {
            Box::new(AdaFisher::new(config).unwrap())
        });
    }
    let accumulated = Plan { accumulate: 2, clip_norm: Some(0.5), ..Plan::default() };
    assert_alike("accumulated and clipped", &accumulated, &gpu, adam);
    // The first scale is too large: steps are skipped, and the next is captured anew.
    let scaled = Plan { precision: Precision::F16, ..Plan::default() };
    assert_alike("f16", &scaled, &gpu, adam);
    let cast = Plan { precision: Precision::BF16, ..Plan::default() };
    assert_alike("bf16", &cast, &gpu, adam);
}

#[test]
fn a_loss_that_is_not_finite_names_the_op_and_leaves_the_model_as_it_was() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let run = |graph| {
        let (train, _) = data::digits().unwrap();
        let mut train = train.range(0, 96).unwrap();
        // In the fifth batch of sixteen.
        let poisoned = train.inputs.to_vec::<f32>().unwrap().into_iter().enumerate();
        let poisoned = poisoned.map(|(i, x)| if i == 70 * 64 { f32::NAN } else { x }).collect();
        train.inputs = Tensor::from_vec::<f32>(poisoned, *train.inputs.shape()).unwrap();
        let batches = Loader::new(&train, 16).unwrap().on(GPU);
        let mut model = network();
        model.to_device(GPU).unwrap();
        let (mut sgd, mut steps) = (Sgd::new(SgdConfig::default()).unwrap(), 0);
        let mut tell = |event: &Event<'_>| {
            steps += u64::from(matches!(event, Event::Stepped(_)));
            Ok(())
        };
        let (plan, task) = (Plan { graph, ..Plan::default() }, Supervised::classification());
        let trainer = Trainer::new(&mut model, &mut sgd, &task, plan).unwrap().observe(&mut tell);
        let error = trainer.run(&batches, &batches).unwrap_err();
        assert!(matches!(error, Error::NotFinite { op: "input", .. }), "{error}");
        (steps, numbers(&model))
    };
    let (plain, captured) = (run(false), run(true));
    assert_eq!(captured, plain);
    assert_eq!(plain.0, 4);
}

#[test]
fn what_cannot_be_captured_is_refused() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let (train, _) = data::digits().unwrap();
    let batches = Loader::new(&train.range(0, 64).unwrap(), 16).unwrap();
    let (mut model, task) = (network(), Supervised::classification());
    let mut sgd = Sgd::new(SgdConfig::default()).unwrap();
    let plan = Plan { graph: true, ..Plan::default() };
    let trainer = Trainer::new(&mut model, &mut sgd, &task, plan).unwrap();
    let refused = trainer.run(&batches, &batches).unwrap_err();
    assert!(matches!(refused, Error::Argument { op: "train", name: "graph", .. }), "{refused}");

    let mut weight = Parameter::new(Tensor::ones([2], DType::F32).to_device(GPU).unwrap());
    let x = Tensor::ones([2], DType::F32);
    let reads = |weight: &Parameter, tape: &Tape, x: &[Tensor]| {
        let loss = tape.bind(weight).mul(&tape.input(x[0].clone()))?.sum_all()?;
        loss.item()?;
        Ok(loss)
    };
    let refused = Replay::capture(&mut weight, &[&x], 0, false, reads).unwrap_err();
    let call = "cuMemcpyDtoH";
    assert!(
        matches!(&refused, Error::Cuda { source: CudaError::Captured { call: c }, .. } if *c == call),
        "{refused}"
    );
    // What does not fit a captured pass is not done.
    let sums = |weight: &Parameter, tape: &Tape, x: &[Tensor]| {
        tape.bind(weight).mul(&tape.input(x[0].clone()))?.sum_all()
    };
    let replay = Replay::capture(&mut weight, &[&x], 0, false, sums).unwrap();
    assert!(replay.launch(&weight, &[&x], 0).unwrap());
    assert_eq!(replay.loss().item().unwrap(), 2.0);
    assert!(!replay.launch(&weight, &[&Tensor::ones([3], DType::F32)], 0).unwrap());
    let other = Parameter::new(Tensor::ones([2], DType::F32).to_device(GPU).unwrap());
    assert!(!replay.launch(&other, &[&x], 0).unwrap());
}
