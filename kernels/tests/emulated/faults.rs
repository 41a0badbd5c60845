//! Five faults planted on purpose, one of each kind that kernels are prone to: the emulator, or a
//! comparison with the right answer, has to notice every one. The kernel beside each is right.

use alcyon_kernels::cuda::gemm::{Matrices, gemm};
use alcyon_kernels::cuda::{Arg, CudaError, Gpu, Grid, Program, Scalar, Slice, SliceMut, Text};

use crate::{device, read};

/// Runs `body` as the kernel `(long long n, const float* x, float* y)` over `x`; what it wrote, or how
/// it failed. Each buffer is an allocation of its own, of its exact size.
fn run(
    gpu: &Gpu,
    name: &'static str,
    body: &'static str,
    x: &[f32],
) -> Result<Vec<f32>, CudaError> {
    gpu.memory().set_caching(false)?;
    let program = Program::new(Text { name, source: body }, Scalar::F32);
    let (from, to) = (gpu.write(x)?, gpu.memory().allocate(x.len() * 4)?);
    let grid = Grid { blocks: 1, threads: 64, shared: 64 * 4 };
    let arguments = [x.len().into(), Arg::Pointer(from.pointer()), Arg::Pointer(to.pointer())];
    // SAFETY: both buffers live until the end; the faulty kernels run on emulated memory alone, which
    // has guard zones.
    let launched = unsafe { gpu.run(&program, "kernel", grid, &arguments) };
    let result = launched.map(|()| read(gpu, &to, x.len()));
    drop((from, to));
    gpu.memory().set_caching(true)?;
    result
}

fn numbers() -> Vec<f32> {
    (0..64).map(|i| (i * i % 37) as f32).collect()
}

/// y[i] = x[0] + … + x[63] for each of 64 threads, through shared memory.
macro_rules! sum_of_all {
    ($barrier:literal) => {
        concat!(
            "extern \"C\" __global__ void kernel(long long n, const T* x, T* y) {\n",
            "    DYN_SHARED(T, all);\n    all[threadIdx.x] = x[threadIdx.x];\n    ",
            $barrier,
            "\n    T sum = 0;\n    for (long long i = 0; i < n; i++) sum += all[i];\n",
            "    y[threadIdx.x] = sum;\n}"
        )
    };
}

/// y = 2x, up to an end.
macro_rules! twice {
    ($end:literal) => {
        concat!(
            "extern \"C\" __global__ void kernel(long long n, const T* x, T* y) {\n",
            "    for (long long i = threadIdx.x; i < ",
            $end,
            "; i += blockDim.x) y[i] = 2 * x[i];\n}"
        )
    };
}

/// y = x, by way of shared memory at a place.
macro_rules! through_shared {
    ($place:literal) => {
        concat!(
            "extern \"C\" __global__ void kernel(long long n, const T* x, T* y) {\n",
            "    DYN_SHARED(T, all);\n    all[",
            $place,
            "] = x[threadIdx.x];\n    __syncthreads();\n",
            "    y[threadIdx.x] = all[",
            $place,
            "];\n}"
        )
    };
}

#[test]
fn an_end_that_is_one_too_far_or_too_near_is_noticed() {
    let Some((gpu, _guard)) = device() else { return };
    let (x, want) = (numbers(), numbers().iter().map(|x| 2.0 * x).collect::<Vec<_>>());
    assert_eq!(run(&gpu, "right end", twice!("n"), &x).unwrap(), want);
    if alcyon_emulator::is_sanitized() {
        return; // The process would end here: the last test of this file.
    }
    let far = run(&gpu, "too far", twice!("n + 1"), &x);
    assert!(
        matches!(&far, Err(CudaError::Lost { code, .. }) if code == "CUDA_ERROR_LAUNCH_FAILED"),
        "{far:?}"
    );
    let near = run(&gpu, "too near", twice!("n - 1"), &x).unwrap();
    assert!(near[63].is_nan(), "what nobody wrote is not a number");
}

#[test]
fn a_missing_barrier_is_noticed() {
    let Some((gpu, _guard)) = device() else { return };
    let x = numbers();
    let want = vec![x.iter().sum::<f32>(); 64];
    assert_eq!(run(&gpu, "barrier", sum_of_all!("__syncthreads();"), &x).unwrap(), want);
    // The first thread runs to its end before the second has written.
    assert_ne!(run(&gpu, "no barrier", sum_of_all!(";"), &x).unwrap(), want);
}

#[test]
fn barriers_that_not_all_threads_reach_are_noticed() {
    let Some((gpu, _guard)) = device() else { return };
    let source = "extern \"C\" __global__ void kernel(long long n, const T* x, T* y) {\n\
                  if (threadIdx.x < 32) {\n __syncthreads();\n } else {\n __syncthreads();\n }\n\
                  y[threadIdx.x] = x[threadIdx.x];\n}";
    let answer = run(&gpu, "torn barrier", source, &numbers());
    assert!(matches!(answer, Err(CudaError::Lost { .. })), "{answer:?}");
}

#[test]
fn an_access_outside_shared_memory_is_noticed() {
    let Some((gpu, _guard)) = device() else { return };
    let x = numbers();
    assert_eq!(run(&gpu, "inside", through_shared!("threadIdx.x"), &x).unwrap(), x);
    if alcyon_emulator::is_sanitized() {
        return;
    }
    let outside = run(&gpu, "outside", through_shared!("threadIdx.x + 1"), &x);
    assert!(matches!(outside, Err(CudaError::Lost { .. })), "{outside:?}");
}

#[test]
fn a_wrong_leading_dimension_is_noticed() {
    let Some((gpu, _guard)) = device() else { return };
    let (a, b) = (gpu.write(&numbers()[..6]).unwrap(), gpu.write(&numbers()[..12]).unwrap());
    let a = Matrices::new(Slice::new(&a, Scalar::F32, 0, 6), 2, 3);
    let b = Matrices::new(Slice::new(&b, Scalar::F32, 0, 12), 3, 4);
    let mut c = gpu.memory().allocate(8 * 4).unwrap();
    let mut product = |a: Matrices<'_>, b: Matrices<'_>| {
        gemm(&gpu, 1, 1.0, a, b, 0.0, &SliceMut::new(&mut c, Scalar::F32, 8))
            .map(|()| read::<f32>(&gpu, &c, 8))
    };
    let want = product(a, b).unwrap();
    // Too short: the rows would overlap. Too long: they lie elsewhere.
    assert!(product(a, Matrices { row: 3, ..b }).is_err());
    assert_ne!(
        product(Matrices { row: 2, size: (2, 2), ..a }, Matrices { size: (2, 4), ..b }).unwrap(),
        want
    );
}

#[test]
fn swapped_arguments_are_noticed() {
    let Some((gpu, _guard)) = device() else { return };
    let source = "extern \"C\" __global__ void kernel(long long n, const T* x, T* y) {\n\
                  EACH(i, n) y[i] = x[i];\n}";
    let program = Program::new(Text { name: "copy", source }, Scalar::F32);
    let x = numbers();
    let copy = |swap: bool| {
        let (from, to) = (gpu.write(&x).unwrap(), gpu.write(&[f32::NAN; 64]).unwrap());
        let (first, second) = if swap { (&to, &from) } else { (&from, &to) };
        let arguments =
            [64_usize.into(), Arg::Pointer(first.pointer()), Arg::Pointer(second.pointer())];
        // SAFETY: both buffers have 64 elements.
        unsafe { gpu.run(&program, "kernel", Grid::over(64), &arguments) }.unwrap();
        read::<f32>(&gpu, &to, 64)
    };
    assert_eq!(copy(false), x);
    assert_ne!(copy(true), x, "swapped pointers are of one kind: the comparison notices");
    // Arguments of two kinds are refused before the launch.
    let arguments = [Arg::Pointer(0), 64_usize.into(), Arg::Pointer(0)];
    // SAFETY: it is refused.
    let answer = unsafe { gpu.run(&program, "kernel", Grid::over(64), &arguments) };
    assert!(matches!(answer, Err(CudaError::Arguments { .. })), "{answer:?}");
}

/// Faulty kernels that AddressSanitizer alone notices, for they only read what is not theirs.
const READS: [(&str, &str); 2] = [
    (
        "reads beyond an allocation",
        "extern \"C\" __global__ void kernel(long long n, const T* x, T* y) {\n\
         y[threadIdx.x] = threadIdx.x == 63 ? T(0) * x[n] : x[threadIdx.x];\n}",
    ),
    (
        "reads beyond shared memory",
        "extern \"C\" __global__ void kernel(long long n, const T* x, T* y) {\n\
         DYN_SHARED(T, all);\n all[threadIdx.x] = x[threadIdx.x];\n __syncthreads();\n\
         y[threadIdx.x] = all[threadIdx.x + 1];\n}",
    ),
];

#[test]
fn under_the_sanitizer_a_read_outside_memory_ends_the_process() {
    if !alcyon_emulator::is_sanitized() {
        return; // scripts/emulator-asan.sh
    }
    for (which, (name, _)) in READS.iter().enumerate() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::reads_what_is_not_its_own", "--ignored", "--nocapture"])
            .env("ALCYON_TEST_FAULT", which.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let seen = text.contains("AddressSanitizer") && text.contains("READ of size 4");
        assert!(!output.status.success() && seen, "{name}:\n{text}");
    }
}

#[test]
#[ignore = "a process of the test above"]
fn reads_what_is_not_its_own() {
    let Some((gpu, _guard)) = device() else { return };
    let which: usize = std::env::var("ALCYON_TEST_FAULT").unwrap().parse().unwrap();
    let (name, source) = READS[which];
    println!("{:?}", run(&gpu, name, source, &numbers()));
}
