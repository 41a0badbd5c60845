//! Two workers with a part of the batch each take the step of one worker with all of it.

use std::sync::{Arc, Barrier, Mutex};

use engine::{DType, Error, LayerRecord, Likelihood, Parameters, Result, Tape, Tensor};
use optim::LayerStep;
use optim::curvature::{Communicator, Local, mean_gradients};
use optim::{
    AdaFisher, AdaFisherConfig, Ekfac, EkfacConfig, Fisher, Kfac, KfacConfig, Optimizer, Tnt,
    TntConfig, backward, build,
};

use super::models::{Net, REORDERED, Softmax, assert_close, noise, numbers, tanh};

/// Threads that add up in the order of their ranks.
#[derive(Clone)]
struct Together {
    rank: usize,
    parts: Arc<Mutex<Vec<Vec<f64>>>>,
    barrier: Arc<Barrier>,
}

impl Together {
    fn new(workers: usize) -> Vec<Self> {
        let parts = Arc::new(Mutex::new(vec![Vec::new(); workers]));
        let barrier = Arc::new(Barrier::new(workers));
        let worker = |rank| Self { rank, parts: parts.clone(), barrier: barrier.clone() };
        (0..workers).map(worker).collect()
    }
}

impl Communicator for Together {
    fn workers(&self) -> usize {
        self.parts.lock().unwrap().len()
    }

    fn sum(&mut self, mine: &mut [f64]) -> Result<()> {
        self.parts.lock().unwrap()[self.rank] = mine.to_vec();
        self.barrier.wait();
        mine.fill(0.0);
        for part in self.parts.lock().unwrap().iter() {
            mine.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        self.barrier.wait();
        Ok(())
    }
}

type Make = fn() -> Box<dyn Optimizer>;

/// The parameters after three steps with a part of each batch of seven rows.
fn trained(
    sizes: &[usize],
    make: Make,
    rows: std::ops::Range<usize>,
    workers: &mut dyn Communicator,
) -> Result<Vec<f64>> {
    let mut net = Net::new(sizes, tanh);
    let mut optimizer = make();
    for step in 0..3 {
        let x = noise([7, 4], step).narrow(0, rows.start, rows.len())?.contiguous()?;
        let labels =
            Softmax::labels(7 + step as usize, 3).0[step as usize..][rows.clone()].to_vec();
        let loss = Softmax(labels);
        let tape = Tape::new();
        let y = net.forward(&tape.input(x))?;
        let pass = backward(&tape, &y, &loss, &mut *optimizer)?;
        optimizer.exchange(workers)?;
        let gradients = mean_gradients(&net, &pass.gradients, rows.len(), workers)?;
        optimizer.step(&mut net, &gradients)?;
    }
    let value = |t: &Tensor| numbers(t);
    Ok(net.parameters().iter().flat_map(|(_, p)| value(p.value())).collect())
}

fn both(first: &'static [usize], second: &'static [usize], make: Make) -> Vec<Result<Vec<f64>>> {
    let parts = [(first, 0..2), (second, 2..7)];
    let threads = Together::new(2).into_iter().zip(parts).map(|(mut worker, (sizes, rows))| {
        std::thread::spawn(move || trained(sizes, make, rows, &mut worker))
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

const SIZES: &[usize] = &[4, 5, 3];

fn ekfac(fisher: Fisher) -> Box<dyn Optimizer> {
    let step = LayerStep { fisher, ..LayerStep::default() };
    Box::new(Ekfac::new(EkfacConfig { step, basis_every: 2, ..EkfacConfig::default() }).unwrap())
}

fn kfac(fisher: Fisher) -> Box<dyn Optimizer> {
    Box::new(Kfac::new(KfacConfig { fisher, ..KfacConfig::default() }).unwrap())
}

#[test]
fn two_workers_step_as_one_with_the_whole_batch() {
    let makes: [(&str, Make); 13] = [
        ("K-FAC, empirical", || kfac(Fisher::Empirical)),
        ("K-FAC, exact", || kfac(Fisher::Exact)),
        ("K-FAC, planned", || {
            let (fisher, budget) = (Fisher::Exact, Some(900));
            Box::new(Kfac::new(KfacConfig { fisher, budget, ..KfacConfig::default() }).unwrap())
        }),
        ("AdaFisher", || Box::new(AdaFisher::new(AdaFisherConfig::thesis()).unwrap())),
        ("EKFAC, empirical", || ekfac(Fisher::Empirical)),
        ("EKFAC, exact", || ekfac(Fisher::Exact)),
        ("FOOF", || build("foof", None).unwrap()),
        ("SKFAC", || build("skfac", None).unwrap()),
        ("Eva", || build("eva", None).unwrap()),
        ("MKOR", || build("mkor", None).unwrap()),
        ("SINGD", || build("singd", None).unwrap()),
        ("IKFAC", || build("ikfac", None).unwrap()),
        ("TNT", || {
            let step = LayerStep::default();
            Box::new(Tnt::new(TntConfig { step, ..TntConfig::default() }).unwrap())
        }),
    ];
    for (name, make) in makes {
        let whole = trained(SIZES, make, 0..7, &mut Local).unwrap();
        let workers: Vec<_> = both(SIZES, SIZES, make).into_iter().map(Result::unwrap).collect();
        assert_eq!(workers[0], workers[1], "{name}: the workers agree bit by bit");
        assert_close(&workers[0], &whole, 1e2 * REORDERED, name);
        let alone = trained(SIZES, make, 0..2, &mut Local).unwrap();
        let apart = alone.iter().zip(&whole).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(apart > 1e-6, "{name}: a part alone steps elsewhere, or this shows nothing");
    }
}

#[test]
fn workers_with_other_models_are_refused() {
    let makes: [Make; 2] = [|| kfac(Fisher::Empirical), || ekfac(Fisher::Empirical)];
    for make in makes {
        for outcome in both(SIZES, &[4, 6, 3], make) {
            assert!(matches!(outcome, Err(Error::Argument { op: "exchange", name: "sums", .. })));
        }
    }
}

#[test]
fn a_row_of_one_worker_that_is_not_finite_keeps_all_of_them_from_learning() {
    let step = |mut worker: Together, x: Tensor| {
        let (net, mut ekfac) = (Net::new(SIZES, tanh), Ekfac::new(EkfacConfig::default()).unwrap());
        let source = ekfac.curvature().unwrap();
        let tape = Tape::new();
        let y = net.forward(&tape.input(noise([2, 4], 1))).unwrap();
        let mut records: Vec<LayerRecord> = Vec::new();
        tape.backward_observed(&Softmax::labels(2, 3).nll(&y).unwrap(), &mut records).unwrap();
        source.begin_sweep(0);
        for mut record in records {
            if record.input.shape() == x.shape() {
                record.input = x.clone();
            }
            source.observe(&record).unwrap();
        }
        source.finish(2).unwrap();
        ekfac.exchange(&mut worker).unwrap();
        (ekfac.skipped(), ekfac.kept(&net.layers[0].weight, "a").is_some())
    };
    for (first, expected) in [(1.0, (0, true)), (f64::INFINITY, (1, false))] {
        let workers = Together::new(2).into_iter().zip([first, 1.0]);
        let threads: Vec<_> = workers
            .map(|(worker, value)| {
                let x = Tensor::full([2, 4], value, DType::F64);
                std::thread::spawn(move || step(worker, x))
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), expected);
        }
    }
}
