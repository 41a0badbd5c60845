//! Two workers with a part of the batch each take the step of one worker with all of it.

use std::sync::{Arc, Barrier, Mutex};

use engine::{Error, Parameters, Result, Tape, Tensor};
use optim::curvature::communicator::{Communicator, Local, mean_gradients};
use optim::{
    AdaFisher, AdaFisherConfig, Ekfac, EkfacConfig, Fisher, Kfac, KfacConfig, Optimizer, backward,
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
        if let Some(source) = optimizer.curvature() {
            source.exchange(workers)?;
        }
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

fn kfac(fisher: Fisher) -> Box<dyn Optimizer> {
    Box::new(Kfac::new(KfacConfig { fisher, ..KfacConfig::default() }).unwrap())
}

#[test]
fn two_workers_step_as_one_with_the_whole_batch() {
    let makes: [(&str, Make); 3] = [
        ("K-FAC, empirical", || kfac(Fisher::Empirical)),
        ("K-FAC, exact", || kfac(Fisher::Exact)),
        ("AdaFisher", || Box::new(AdaFisher::new(AdaFisherConfig::thesis()).unwrap())),
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
fn estimators_without_sums_and_workers_with_other_models_are_refused() {
    let ekfac: Make = || Box::new(Ekfac::new(EkfacConfig::default()).unwrap());
    for outcome in both(SIZES, SIZES, ekfac) {
        assert!(matches!(outcome, Err(Error::Argument { op: "exchange", name: "workers", .. })));
    }
    for outcome in both(SIZES, &[4, 6, 3], || kfac(Fisher::Empirical)) {
        assert!(matches!(outcome, Err(Error::Argument { op: "exchange", name: "sums", .. })));
    }
    // Alone, there is nothing to exchange.
    assert!(trained(SIZES, ekfac, 0..7, &mut Local).is_ok());
}
