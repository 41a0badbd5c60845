//! Memory in use stays what it is, whatever is made, trained and dropped for however long. Each test has
//! the pool of the process to itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

#[path = "process/status.rs"]
mod status;

use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use alcyon::kernels::pool;
use alcyon::nn::data::{Images, augment::PadCrop};
use alcyon::optim::{self, Batch};
use alcyon::prelude::*;

const MIB: usize = 1 << 20;

/// What an allocator may keep for itself.
const SLACK: usize = 16 * MIB;

/// One test at a time, and nothing idle from the one before.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    pool::clear();
    turn
}

/// What the pool holds, in use or waiting.
fn held() -> usize {
    pool::live_bytes() + pool::idle_bytes()
}

/// This process's bytes in main memory; 0 where the system does not say.
fn resident() -> usize {
    status::bytes("VmRSS:").unwrap_or(0) as usize
}

#[test]
fn vectors_that_become_tensors_go_back_to_the_system() {
    let _alone = alone();
    let before = (resident(), held());
    for _ in 0..4000 {
        drop(Tensor::from_vec(vec![1.0_f32; 16_384], [16_384]).unwrap());
    }
    assert!(resident() < before.0 + SLACK, "{} → {}", before.0, resident());
    assert_eq!(held(), before.1);
}

#[test]
fn tensors_made_on_one_thread_and_dropped_on_another_do_not_pile_up() {
    let _alone = alone();
    let before = resident();
    pool::reset_peak();
    let (send, receive) = mpsc::sync_channel::<Tensor>(2);
    let reader = thread::spawn(move || receive.iter().for_each(drop));
    for _ in 0..2000 {
        send.send(Tensor::zeros([MIB / 4], DType::F32)).unwrap();
    }
    drop(send);
    reader.join().unwrap();
    assert!(pool::idle_bytes() <= pool::peak_bytes(), "{}", pool::idle_bytes());
    assert!(pool::peak_bytes() < 8 * MIB, "two wait, and one is in each hand");
    assert!(resident() < before + SLACK, "{} → {}", before, resident());
}

#[test]
fn types_and_threads_that_have_ended_share_one_store() {
    let _alone = alone();
    let make = |dtype: DType| drop(Tensor::zeros([4 * MIB / dtype.bytes()], dtype));
    for dtype in [DType::F32, DType::F64, DType::I64, DType::F16, DType::BF16] {
        thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(|| make(dtype)))));
    }
    // At most eight at once; one after the other would be forty.
    assert!(pool::idle_bytes() <= 8 * 4 * MIB, "{}", pool::idle_bytes());
}

/// What is held after each of some steps of a network on noise.
fn steps(name: &str, widths: &[usize], rows: usize, count: u64) -> Vec<usize> {
    let rng = &mut Rng::new(0);
    let x = Tensor::normal([rows, widths[0]], 0.0, 1.0, DType::F32, rng);
    let labels = Tensor::random_indices([rows], widths[widths.len() - 1], rng).unwrap();
    let (mut model, mut optimizer) = (Mlp::new(widths, rng), optim::build(name, None).unwrap());
    let loss = CrossEntropy::new(&labels);
    let forward = |model: &Mlp, tape: &Tape| model.forward(&tape.input(x.clone()));
    let step = |step| {
        let mut batch = Batch::new(&mut model, forward, &loss).training(step);
        optimizer.minimize(&mut batch).unwrap();
        held()
    };
    (0..count).map(step).collect()
}

#[test]
fn a_large_model_that_is_dropped_gives_its_memory_back_while_a_small_one_learns() {
    let _alone = alone();
    steps("adam", &[1024, 1024, 1024, 10], 256, 2);
    let large = pool::idle_bytes();
    assert!(large > 16 * MIB, "{large}");
    let small = steps("adam", &[64, 128, 10], 64, 300);
    assert!(small[299] < MIB, "{} of {large} bytes", small[299]);
}

/// Optimizers that form the whole matrix of curvature at every step: not for a network of this size.
const WHOLE_MATRIX: [&str; 2] = ["natural-gradient", "newton"];

#[test]
fn no_optimizer_of_the_registry_makes_the_pool_grow() {
    let _alone = alone();
    for name in optim::known() {
        pool::clear();
        // Powers of two: every matrix is as long as one of the pool's classes.
        let held = match WHOLE_MATRIX.contains(&name) {
            true => steps(name, &[4, 8, 2], 8, 160),
            false => steps(name, &[64, 128, 10], 64, 160),
        };
        // Some have a basis that they renew at every hundredth step.
        let (early, late) = (held[..=100].iter().copied().max().unwrap(), held[159]);
        // A buffer more, if threads meet otherwise; the least that leaked was 30 KiB a step.
        assert!(late <= early + MIB / 4, "{name}: {early} → {late} bytes");
    }
}

#[test]
fn batches_that_another_thread_prepares_leave_memory_flat() {
    let _alone = alone();
    let (n, side) = (640, 32);
    let labels = (0..n as i64).map(|i| i % 10).collect();
    let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pixels = vec![7; n * 3 * side * side];
    let images = Images::new("grey", [3, side, side], pixels, labels, &names).unwrap();
    let changed = images.augmented().then(PadCrop { padding: 4 });
    let loader = Loader::new(&changed, 128).unwrap().prefetch(2);
    let epoch = |number| {
        loader.epoch_at(0, number).for_each(|batch| drop(batch.unwrap()));
        held()
    };
    let after: Vec<usize> = (0..40).map(epoch).collect();
    let batch = 128 * 3 * side * side * 4;
    // Of each worker two batches wait and one is in its hand, and one is with the reader.
    assert!(after.iter().all(|&held| held <= after[0].max(9 * batch)), "{after:?}");
    assert!(pool::idle_bytes() <= pool::peak_bytes());
}

#[test]
fn a_batch_of_matrices_that_broadcasts_in_part_is_never_repeated() {
    let _alone = alone();
    let of = |shape: [usize; 4]| Tensor::full(shape, 0.5, DType::F32);
    // 16 matrices of 64 KiB beside 16 of 1 KiB, products of 1 KiB: each large one 16 times would be 16 MiB.
    for (large, small, right) in [
        ([16, 1, 128, 128], [1, 16, 128, 2], false),
        ([1, 16, 128, 128], [16, 1, 128, 2], false),
        ([16, 1, 128, 128], [16, 16, 128, 2], false),
        ([16, 1, 128, 128], [1, 16, 2, 128], true),
        ([1, 16, 128, 128], [16, 16, 2, 128], true),
    ] {
        let (large, small) = (of(large), of(small));
        let tape = Tape::new();
        let (a, b) = (tape.watch(large), tape.watch(small));
        pool::reset_peak();
        let before = pool::live_bytes();
        let y = if right { b.matmul(&a).unwrap() } else { a.matmul(&b).unwrap() };
        let forward = pool::peak_bytes() - before;
        assert!(forward <= y.numel() * 4 + MIB / 16, "{forward}");
        let grads = tape.backward(&y.sum_all().unwrap()).unwrap();
        assert_eq!(grads.of_var(&a).unwrap().shape(), a.shape());
        let both = pool::peak_bytes() - before;
        // The gradients, the one of the product, and these and the operands once more, to be joined.
        let once = (a.numel() + b.numel() + y.numel()) * 4;
        assert!(both < 4 * once, "{both} of {once}");
    }
}
