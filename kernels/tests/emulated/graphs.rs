//! Work that is captured once and launched again: the numbers of the same work done step by step.

use std::sync::Arc;

use alcyon_kernels::conv::Conv2d;
use alcyon_kernels::cuda::conv::cudnn;
use alcyon_kernels::cuda::memory::Buffer;
use alcyon_kernels::cuda::{CudaError, Gpu, Scalar, Slice, SliceMut};
use alcyon_kernels::cuda::{affine, dropout, gemm, index, pairs, strided};
use alcyon_kernels::unfold::Window;

use crate::{device, read};

const SUM: pairs::Formula = pairs::Formula("sum", "a + b");

fn floats(buffer: &Buffer, n: usize) -> Slice<'_> {
    Slice::new(buffer, Scalar::F32, 0, n)
}

/// x Wᵀ + b, times itself as a 2 × 2 matrix, plus x: cuBLASLt, cuBLAS and a kernel.
fn work(gpu: &Gpu, x: &Buffer, weight: &Buffer) -> Result<Buffer, CudaError> {
    let bias = gpu.write(&[1.0_f32, -1.0])?;
    let [mut y, mut z, mut sum] = [16, 16, 16].map(|bytes| gpu.memory().allocate(bytes).unwrap());
    let out = SliceMut::new(&mut y, Scalar::F32, 4);
    affine::affine(gpu, [2; 3], floats(x, 4), floats(weight, 4), floats(&bias, 2), &out)?;
    let matrix = gemm::Matrices::new(floats(&y, 4), 2, 2);
    gemm::gemm(gpu, 1, 0.5, matrix, matrix, 0.0, &SliceMut::new(&mut z, Scalar::F32, 4))?;
    let out = SliceMut::new(&mut sum, Scalar::F32, 4);
    pairs::alike(gpu, SUM, floats(&z, 4), floats(x, 4), &out)?;
    Ok(sum)
}

#[test]
fn every_launch_computes_from_what_lies_there_then_and_what_was_constant_stays() {
    let Some((gpu, _guard)) = device() else { return };
    let inputs = [[1.0_f32, 2.0, -3.0, 0.5], [4.0, 0.0, 1.0, -2.0], [0.0; 4]];
    let weight = gpu.write(&[1.0_f32, -1.0, 2.0, 3.0]).unwrap();
    let want = inputs
        .map(|x| read::<f32>(&gpu, &work(&gpu, &gpu.write(&x).unwrap(), &weight).unwrap(), 4));
    let mut x = gpu.write(&inputs[0]).unwrap();
    let (y, graph) = gpu.capture(|| work(&gpu, &x, &weight)).unwrap();
    let launches = gpu.launches();
    for (input, want) in inputs.iter().zip(&want) {
        gpu.refill(&SliceMut::new(&mut x, Scalar::F32, 4), input).unwrap();
        graph.launch().unwrap();
        // Others use the device in between, but not the graph's memory.
        drop([16; 8].map(|_| gpu.write(&[f32::NAN; 4]).unwrap()));
        graph.launch().unwrap();
        assert_eq!(&read::<f32>(&gpu, &y, 4), want);
    }
    assert_eq!(gpu.launches(), launches + 6);
    let other = gpu.write(&inputs[1]).unwrap();
    gpu.refill_from(&SliceMut::new(&mut x, Scalar::F32, 4), floats(&other, 4)).unwrap();
    graph.launch().unwrap();
    assert_eq!(read::<f32>(&gpu, &y, 4), want[1]);
}

#[test]
fn a_graph_keeps_its_memory_while_it_lives_and_leaves_it_to_everybody() {
    let Some((gpu, _guard)) = device() else { return };
    let memory = gpu.memory();
    drop(gpu.capture(|| Ok::<_, CudaError>(())).unwrap()); // The first takes memory for all.
    let weight = gpu.write(&[1.0_f32; 4]).unwrap();
    let x = gpu.write(&[1.0_f32; 4]).unwrap();
    let taken = gpu.write(&[2.0_f32; 4]).unwrap();
    let before = memory.statistics();
    let (y, graph) = gpu
        .capture(|| {
            // Read here, and dropped here: it must be there at every launch.
            let y = work(&gpu, &taken, &weight)?;
            drop(taken);
            Ok::<_, CudaError>((y, work(&gpu, &x, &weight)?))
        })
        .unwrap();
    let captured = memory.statistics();
    assert!(captured.graphs > 0, "{captured:?}");
    let held: Vec<_> = (0..64).map(|_| gpu.write(&[f32::NAN; 4]).unwrap()).collect();
    graph.launch().unwrap();
    let want =
        read::<f32>(&gpu, &work(&gpu, &gpu.write(&[2.0_f32; 4]).unwrap(), &weight).unwrap(), 4);
    assert_eq!(read::<f32>(&gpu, &y.0, 4), want);
    assert!(held.iter().all(|buffer| read::<f32>(&gpu, buffer, 4).iter().all(|x| x.is_nan())));
    drop(held);
    drop(graph);
    assert_eq!(memory.statistics().graphs, 0);
    drop(y);
    // But for the one that was dropped inside.
    let after = memory.statistics();
    assert_eq!(after.live, before.live - 512);
}

#[test]
fn what_a_graph_reads_and_writes_is_nobody_elses_though_its_buffers_are_dropped() {
    let Some((gpu, _guard)) = device() else { return };
    let before = gpu.memory().statistics();
    let (x, mut y) = (gpu.write(&[1.0_f32; 4]).unwrap(), gpu.write(&[0.0_f32; 4]).unwrap());
    let mut capture = || {
        let to = SliceMut::new(&mut y, Scalar::F32, 4);
        gpu.capture(|| strided::copy(&gpu, &[4], &[1], floats(&x, 4), &to)).unwrap().1
    };
    let graphs = [capture(), capture()];
    drop((x, y));
    let others: Vec<_> = (0..64).map(|_| gpu.write(&[7.0_f32; 4]).unwrap()).collect();
    for graph in graphs {
        graph.launch().unwrap();
        assert!(others.iter().all(|other| read::<f32>(&gpu, other, 4) == [7.0; 4]));
        assert_eq!(
            gpu.memory().statistics().graphs - before.graphs,
            1024,
            "of both, till both are gone"
        );
    }
    assert_eq!(gpu.memory().statistics().graphs, before.graphs);
}

#[test]
fn masks_are_those_of_the_shifted_seed() {
    let Some((gpu, _guard)) = device() else { return };
    let n = 64;
    let x = gpu.write(&vec![1.0_f32; n]).unwrap();
    let masked = |seed: u64| {
        let [mut y, mut mask] = [0; 2].map(|_| gpu.memory().allocate(n * 4).unwrap());
        let [to, of] = [&mut y, &mut mask].map(|b| SliceMut::new(b, Scalar::F32, n));
        dropout::dropout(&gpu, 0.5, [seed, 3], floats(&x, n), &to, &of)?;
        Ok::<_, CudaError>(y)
    };
    let [first, other] = [5, u64::MAX].map(|seed| read::<f32>(&gpu, &masked(seed).unwrap(), n));
    assert_ne!(first, other);
    let (y, graph) = gpu.capture(|| masked(5)).unwrap();
    graph.launch().unwrap();
    assert_eq!(read::<f32>(&gpu, &y, n), first);
    graph.shift_seeds(u64::MAX - 5).unwrap();
    graph.launch().unwrap();
    assert_eq!(read::<f32>(&gpu, &y, n), other);
}

#[test]
fn what_cannot_be_captured_is_refused_by_name_and_the_device_goes_on() {
    let Some((gpu, _guard)) = device() else { return };
    let x = gpu.write(&[1.0_f32; 4]).unwrap();
    let refused = |call: &'static str, work: &dyn Fn() -> Result<(), CudaError>| {
        let got = gpu.capture(work).map(|_| ());
        assert_eq!(got, Err(CudaError::Captured { call }));
        assert_eq!(read::<f32>(&gpu, &x, 4), [1.0; 4]);
    };
    refused("cuMemcpyDtoH", &|| gpu.read(&x, 0, &mut [0.0_f32; 4]));
    refused("cuMemcpyHtoD", &|| {
        let mut y = gpu.memory().allocate(16)?;
        gpu.refill(&SliceMut::new(&mut y, Scalar::F32, 4), &[0.0_f32; 4])
    });
    refused("cuStreamSynchronize", &|| gpu.synchronize());
    refused("cuStreamBeginCapture", &|| gpu.capture(|| Ok::<_, CudaError>(())).map(|_| ()));
    refused("use by another thread", &|| {
        let other = std::thread::scope(|scope| scope.spawn(|| gpu.write(&[1.0_f32])).join());
        other.unwrap().map(|_| ())
    });
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        gpu.capture(|| -> Result<(), CudaError> { panic!("on purpose") })
    }));
    assert!(panicked.is_err());
    assert_eq!(read::<f32>(&gpu, &x, 4), [1.0; 4]);
    assert_eq!(gpu.memory().statistics().graphs, 0);
}

/// Whatever another thread does while this one captures: it is done afterwards, and is not in the graph.
fn beside<T: Send>(gpu: &Arc<Gpu>, other: impl Fn() -> T + Send + Sync) -> T {
    let (x, weight) = (gpu.write(&[1.0_f32; 4]).unwrap(), gpu.write(&[2.0_f32; 4]).unwrap());
    let indices = gpu.write(&[0_i64, 1]).unwrap();
    let want = read::<f32>(gpu, &work(gpu, &x, &weight).unwrap(), 4);
    std::thread::scope(|scope| {
        let ((y, other), graph) = gpu
            .capture(|| {
                let other = scope.spawn(&other);
                std::thread::sleep(std::time::Duration::from_millis(20));
                index::check(gpu, "here", Slice::new(&indices, Scalar::I64, 0, 2), 2)?;
                Ok::<_, CudaError>((work(gpu, &x, &weight)?, other))
            })
            .unwrap();
        let done = other.join().unwrap();
        graph.launch().unwrap();
        assert_eq!(read::<f32>(gpu, &y, 4), want);
        done
    })
}

#[test]
fn other_threads_wait_for_the_end_of_a_capture_and_are_not_in_it() {
    let Some((gpu, _guard)) = device() else { return };
    let written =
        beside(&gpu, || (0..100).map(|i| gpu.write(&[i as f32; 4]).unwrap()).collect::<Vec<_>>());
    for (i, buffer) in written.iter().enumerate() {
        assert_eq!(read::<f32>(&gpu, buffer, 4), [i as f32; 4]);
    }
    // Who waits, waits for the end of the capture, too.
    assert!(beside(&gpu, || gpu.timed(|| gpu.synchronize())).is_ok());
    // A check writes to a note that the capturing thread's checks write to, too.
    let fine = gpu.write(&[1_i64]).unwrap();
    let (there, numbers) = (Slice::new(&fine, Scalar::I64, 0, 1), gpu.write(&[3.0_f32]).unwrap());
    beside(&gpu, || {
        index::check(&gpu, "there", there, 2)?;
        gpu.read(&numbers, 0, &mut [0.0_f32])
    })
    .unwrap();
    // And a convolution of cuDNN, which queues by itself.
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    let conv = Conv2d::new(1, 1, 2, 3, (4, 4), window).unwrap();
    let numbers = |n: usize| (0..n).map(|i| (i % 5) as f32 - 2.0).collect::<Vec<_>>();
    let (x, weight) = (gpu.write(&numbers(32)).unwrap(), gpu.write(&numbers(54)).unwrap());
    let convolved = || {
        let mut y = gpu.memory().allocate(48 * 4).unwrap();
        let out = SliceMut::new(&mut y, Scalar::F32, 48);
        assert!(cudnn::forward(&gpu, &conv, floats(&x, 32), floats(&weight, 54), None, &out)?);
        Ok::<_, CudaError>(y)
    };
    let want = read::<f32>(&gpu, &convolved().unwrap(), 48);
    let got = beside(&gpu, convolved).unwrap();
    assert_eq!(read::<f32>(&gpu, &got, 48), want);
}

#[test]
fn an_index_out_of_range_in_a_graph_is_the_error_of_the_next_read() {
    let Some((gpu, _guard)) = device() else { return };
    let mut indices = gpu.write(&[0_i64, 1]).unwrap();
    let of = |buffer| Slice::new(buffer, Scalar::I64, 0, 2);
    let ((), graph) = gpu.capture(|| index::check(&gpu, "gather", of(&indices), 2)).unwrap();
    let mut refill = |values: [i64; 2]| {
        gpu.refill(&SliceMut::new(&mut indices, Scalar::I64, 2), &values).unwrap();
    };
    let x = gpu.write(&[1.0_f32]).unwrap();
    for _ in 0..2 {
        refill([0, 7]);
        graph.launch().unwrap();
        let got = gpu.read(&x, 0, &mut [0.0_f32]);
        assert!(matches!(got, Err(CudaError::Index { op: "gather", index: 7, .. })), "{got:?}");
        refill([1, 1]);
        graph.launch().unwrap();
        assert_eq!(read::<f32>(&gpu, &x, 1), [1.0]);
    }
}
