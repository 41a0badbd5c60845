//! What goes wrong on other machines: a driver that is too old, a library that is missing, a device that
//! is lost, a cache that is broken or shared. Each in a process of its own, whose device is as described.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use alcyon_kernels::conv::Conv2d;
use alcyon_kernels::cuda::cache::Cache;
use alcyon_kernels::cuda::gemm::{self, Matrices};
use alcyon_kernels::cuda::memory::Buffer;
use alcyon_kernels::cuda::step::{self, Moving};
use alcyon_kernels::cuda::verdict::Verdict;
use alcyon_kernels::cuda::{
    Arg, CudaError, Gpu, Grid, NoDevice, Program, Scalar, Slice, SliceMut, Text, affine, conv,
    inner, library, probe, softmax, strided,
};
use alcyon_kernels::step::Sgd;
use alcyon_kernels::unfold::Window;

use crate::device;

/// The folder that a process gets; what it does there is up to it.
const FOLDER: &str = "ALCYON_TEST_FOLDER";

/// Another process of this program, in which a test that is otherwise ignored runs.
fn start(test: &str, folder: &Path, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("failures::{test}"), "--ignored", "--nocapture"]);
    command.env(FOLDER, folder).envs(variables.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn done(child: Child) -> String {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(status.success() && text.contains("1 passed"), "{text}");
    text
}

/// A new folder, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("alcyon-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // What is left over is the system's to clean up.
    }
}

fn own_folder() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).unwrap())
}

/// y[i] = 2 x[i]
const TWICE: Text = Text {
    name: "twice",
    source: "extern \"C\" __global__ void twice(long long n, const T* x, T* y) { EACH(i, n) y[i] = 2 * x[i]; }",
};

fn twice(gpu: &Gpu) -> Result<Vec<f32>, CudaError> {
    let (x, y) = (gpu.write(&[1.0_f32, 2.0, 3.0])?, gpu.memory().allocate(12)?);
    let arguments = [3_usize.into(), Arg::Pointer(x.pointer()), Arg::Pointer(y.pointer())];
    // SAFETY: both buffers have three numbers.
    unsafe { gpu.run(&Program::new(TWICE, Scalar::F32), "twice", Grid::over(3), &arguments) }?;
    let mut values = [0.0; 3];
    gpu.read(&y, 0, &mut values)?;
    Ok(values.to_vec())
}

// ---- machines that cannot ------------------------------------------------------------------------

#[test]
fn a_driver_that_is_too_old_and_one_without_a_device_are_said_to_be_so() {
    let Some((_gpu, _guard)) = device() else { return };
    let folder = Folder::new("probe");
    done(start("old_driver", &folder.0, &[("ALCYON_EMULATOR_DRIVER", "12020")]));
    done(start("no_device", &folder.0, &[("ALCYON_EMULATOR_DEVICES", "0")]));
}

#[test]
#[ignore = "a process of the test above"]
fn old_driver() {
    library::search_in(alcyon_emulator::folder().unwrap());
    let answer = probe(0);
    assert_eq!(answer, Err(NoDevice::OldDriver { have: 12_020, need: 12_080 }));
    assert_eq!(Gpu::open(0).unwrap_err(), CudaError::Absent(answer.unwrap_err()));
}

#[test]
#[ignore = "a process of the test above"]
fn no_device() {
    library::search_in(alcyon_emulator::folder().unwrap());
    assert_eq!(probe(0), Err(NoDevice::NoDevice { found: 0 }));
}

#[test]
fn an_operand_of_another_device_is_an_error_that_names_both() {
    let Some((_gpu, _guard)) = device() else { return };
    let folder = Folder::new("two-devices");
    done(start("two_devices", &folder.0, &[("ALCYON_EMULATOR_DEVICES", "2")]));
}

#[test]
#[ignore = "a process of the test above"]
fn two_devices() {
    library::search_in(alcyon_emulator::folder().unwrap());
    let [gpu, other] = [0, 1].map(|n| Gpu::open_with(n, Cache::new(None)).unwrap());
    let four = |gpu: &Gpu| gpu.write(&[1.0_f32; 4]).unwrap();
    let (a, b) = (four(&gpu), four(&other));
    let [mut y, mut z, mut m] = [four(&gpu), four(&other), four(&gpu)];
    let mut total = gpu.write(&[0.0_f64]).unwrap();
    fn of(buffer: &Buffer) -> Slice<'_> {
        Slice::new(buffer, Scalar::F32, 0, 4)
    }
    let (a, b, b_1) = (of(&a), of(&b), of(&b).part(0, 1));
    let total = SliceMut::new(&mut total, Scalar::F64, 1);
    let [y, z, m] = [&mut y, &mut z, &mut m].map(|to| SliceMut::new(to, Scalar::F32, 4));
    let two = |x| Matrices::new(x, 2, 2);
    let conv = Conv2d::new(1, 1, 1, 1, (2, 2), Window::new((1, 1))).unwrap();
    let sgd = Sgd {
        rate: 1.0,
        momentum: 0.5,
        dampening: 0.0,
        nesterov: false,
        weight_decay: 0.0,
        first: true,
    };
    let step = |theta, grad, state| {
        let p = Moving { theta, grad, state: vec![state], step: 1, verdict: None };
        step::sgd(&gpu, &[p], &sgd)
    };
    let launches = gpu.launches();
    let all = [
        strided::copy(&gpu, &[4], &[1], b, &y),
        strided::copy(&gpu, &[4], &[1], a, &z),
        softmax::forward(&gpu, false, 4, b, &y),
        gemm::gemm(&gpu, 1, 1.0, two(b), two(a), 0.0, &y),
        gemm::gemm(&gpu, 1, 1.0, two(a), two(b), 0.0, &y),
        gemm::gemm(&gpu, 1, 1.0, two(a), two(a), 0.0, &z),
        affine::affine(&gpu, [2, 2, 2], a, b, a.part(0, 2), &y),
        affine::affine(&gpu, [4, 1, 1], a, a.part(0, 1), b_1, &y),
        conv::forward(&gpu, &conv, a, b_1, None, &y),
        conv::forward(&gpu, &conv, a, a.part(0, 1), Some(b_1), &y),
        inner::inner(&gpu, &[(a, b)], &total),
        Verdict::of(&gpu, &[a, b], 1.0).map(drop),
        step(&z, a, &m),
        step(&y, b, &m),
        step(&y, a, &z),
        gpu.refill(&z, &[2.0_f32; 4]),
        gpu.refill_from(&z, a),
        gpu.refill_from(&y, b),
    ];
    for (which, got) in all.into_iter().enumerate() {
        let told = matches!(got, Err(CudaError::Device { expected: 0, got: 1, .. }));
        assert!(told, "call {which}: {got:?}");
    }
    assert_eq!(gpu.launches(), launches, "nothing has been queued");
    let buffer = four(&other);
    let error = gpu.read(&buffer, 0, &mut [0.0_f32; 4]).unwrap_err().to_string();
    assert!(error.contains("CUDA device 0") && error.contains("CUDA device 1"), "{error}");
    // Each does its own.
    strided::copy(&other, &[4], &[1], b, &z).unwrap();
    strided::copy(&gpu, &[4], &[1], a, &y).unwrap();
}

#[test]
fn a_library_that_is_missing_is_named_with_the_files_that_were_tried() {
    let Some((_gpu, _guard)) = device() else { return };
    let folder = Folder::new("without-cublas");
    let libraries = fs::read_dir(alcyon_emulator::folder().unwrap()).unwrap();
    for file in libraries.map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_owned();
        if !name.to_string_lossy().contains("cublas") {
            fs::copy(&file, folder.0.join(name)).unwrap();
        }
    }
    // One that is no library at all is tried, and is none.
    fs::write(folder.0.join("libcublas.so.13"), "not a library").unwrap();
    done(start("missing_library", &folder.0, &[]));
}

#[test]
#[ignore = "a process of the test above"]
fn missing_library() {
    library::search_in(own_folder());
    match probe(0) {
        Err(NoDevice::NoLibrary { name: "libcublas.so", tried }) => {
            assert!(tried.contains(&own_folder().join("libcublas.so.13")), "{tried:?}");
        }
        Ok(_) => println!("*** SKIPPED: this machine has a cuBLAS of its own ***"),
        Err(other) => unreachable!("{other:?}"),
    }
}

/// The stand-ins, but for one library, of whose name there is a file without a function.
fn with_an_empty(folder: &Folder, stem: &str) -> bool {
    let libraries = fs::read_dir(alcyon_emulator::folder().unwrap()).unwrap();
    for file in libraries.map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_owned();
        let to = folder.0.join(&name);
        if !name.to_string_lossy().starts_with(&format!("{stem}.so")) {
            fs::copy(&file, to).unwrap();
        } else if !compiled("", &to) {
            return false;
        }
    }
    true
}

/// A library of C; false, loudly, without a compiler.
fn compiled(text: &str, to: &Path) -> bool {
    let source = to.with_extension("c");
    fs::write(&source, text).unwrap();
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(to).arg(&source).status();
    fs::remove_file(source).unwrap();
    let done = status.is_ok_and(|status| status.success());
    if !done {
        eprintln!("*** SKIPPED: no C compiler `cc` that makes a library ***");
    }
    done
}

/// What a driver does that answers, with what `cuInit` and `cuDeviceGetCount` return and write.
fn driver(init: &str, count: &str) -> String {
    format!(
        "unsigned cuInit(unsigned f) {{ {init} }}\n\
         unsigned cuDeviceGetCount(int* n) {{ {count} }}\n\
         unsigned cuDriverGetVersion(int* v) {{ *v = 13000; return 0; }}\n"
    )
}

#[test]
fn a_driver_that_is_none_or_refuses_or_answers_nonsense_is_a_reason_and_never_a_panic() {
    let one = "*n = 1; return 0;";
    for (name, text, reason) in [
        ("nothing", String::new(), "libcuda.so lacks cuInit"),
        ("init-alone", "int cuInit(int f) { return 0; }".into(), "lacks cuDeviceGetCount"),
        ("no-device", driver("return 100;", one), "sees 0 device(s)"),
        ("stub", driver("return 34;", one), "cuInit: code 34"),
        ("nonsense", driver("return 0x7eadbeef;", one), "cuInit: code 2125315823"),
        ("negative", driver("return 0;", "*n = -7; return 0;"), "sees 0 device(s)"),
        ("no-count", driver("return 0;", "return 4242;"), "cuDeviceGetCount: code 4242"),
        ("three-functions", driver("return 0;", one), "libcuda.so lacks cuDeviceGet"),
    ] {
        let folder = Folder::new(&format!("driver-{name}"));
        if compiled(&text, &folder.0.join("libcuda.so")) {
            broken_driver_says(&folder, reason);
        }
    }
    let folder = Folder::new("driver-text");
    fs::write(folder.0.join("libcuda.so"), "not a library").unwrap();
    fs::write(folder.0.join("libcuda.so.1"), "").unwrap();
    broken_driver_says(&folder, "no CUDA driver library");
}

/// Found by the loader's own search, and in a folder that is named.
fn broken_driver_says(folder: &Folder, reason: &str) {
    let path = folder.0.to_str().unwrap();
    done(start("broken_driver", Path::new(""), &[("LD_LIBRARY_PATH", path), (REASON, reason)]));
    done(start("broken_driver", &folder.0, &[("LD_LIBRARY_PATH", path), (REASON, reason)]));
}

#[test]
#[ignore = "a process of the test above"]
fn broken_driver() {
    library::search_in(own_folder());
    for _ in 0..2 {
        let reason = probe(0).unwrap_err();
        assert!(reason.to_string().contains(&std::env::var(REASON).unwrap()), "{reason}");
        assert_eq!(Gpu::open(0).unwrap_err(), CudaError::Absent(reason));
    }
}

#[test]
fn a_library_without_its_functions_is_said_to_be_broken_or_done_without() {
    let Some((_gpu, _guard)) = device() else { return };
    for (stem, test, reason) in [
        ("libnvrtc", "broken_driver", "the CUDA library libnvrtc.so lacks nvrtcVersion"),
        ("libcublas", "broken_driver", "the CUDA library libcublas.so lacks cublasCreate_v2"),
        ("libcublasLt", "no_cublaslt", ""),
        ("libcudnn", "no_cudnn", "libcudnn.so lacks cudnnGetVersion"),
    ] {
        let folder = Folder::new(&format!("empty-{stem}"));
        if with_an_empty(&folder, stem) {
            let path = folder.0.to_str().unwrap();
            done(start(test, &folder.0, &[("LD_LIBRARY_PATH", path), (REASON, reason)]));
        }
    }
}

#[test]
fn without_cublaslt_affine_maps_are_the_same_numbers() {
    let Some((_gpu, _guard)) = device() else { return };
    let folder = Folder::new("without-cublaslt");
    let libraries = fs::read_dir(alcyon_emulator::folder().unwrap()).unwrap();
    for file in libraries.map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_owned();
        if !name.to_string_lossy().contains("cublasLt") {
            fs::copy(&file, folder.0.join(name)).unwrap();
        }
    }
    done(start("no_cublaslt", &folder.0, &[]));
}

#[test]
#[ignore = "a process of the test above"]
fn no_cublaslt() {
    library::search_in(own_folder());
    let gpu = Gpu::open_with(0, Cache::new(None)).unwrap();
    if gpu.plans().is_some() {
        println!("*** SKIPPED: this machine has a cuBLASLt of its own ***");
        return;
    }
    crate::products::check_affine(&gpu);
}

#[test]
fn without_cudnn_or_with_one_that_is_of_no_use_convolutions_are_the_same_numbers() {
    let Some((_gpu, _guard)) = device() else { return };
    let folder = Folder::new("without-cudnn");
    let libraries = fs::read_dir(alcyon_emulator::folder().unwrap()).unwrap();
    for file in libraries.map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_owned();
        if !name.to_string_lossy().contains("cudnn") {
            fs::copy(&file, folder.0.join(name)).unwrap();
        }
    }
    done(start("no_cudnn", &folder.0, &[(REASON, "cannot be loaded")]));
    let here = alcyon_emulator::folder().unwrap();
    for (version, reason) in
        [("-91000", "CUDNN_STATUS_NOT_INITIALIZED"), ("80907", "version 80907")]
    {
        done(start("no_cudnn", here, &[("ALCYON_EMULATOR_CUDNN", version), (REASON, reason)]));
    }
}

/// What the process is to say.
const REASON: &str = "ALCYON_TEST_REASON";

#[test]
#[ignore = "a process of the test above"]
fn no_cudnn() {
    library::search_in(own_folder());
    let gpu = Gpu::open_with(0, Cache::new(None)).unwrap();
    match gpu.cudnn() {
        Ok(version) => println!("*** SKIPPED: this machine has a cuDNN {version} of its own ***"),
        Err(reason) => {
            assert!(reason.contains(&std::env::var(REASON).unwrap()), "{reason}");
            assert_eq!(reason.lines().count(), 1);
            assert_eq!(gpu.cudnn_plans(), (0, 0));
        }
    }
    crate::convolutions::check_chosen(&gpu);
}

// ---- a device that is lost -----------------------------------------------------------------------

#[test]
fn a_lost_device_is_an_error_of_every_later_call_and_never_a_panic() {
    let Some((_gpu, _guard)) = device() else { return };
    let folder = Folder::new("lost");
    done(start("lost_device", &folder.0, &[("ALCYON_EMULATOR_LAUNCHES", "1")]));
}

#[test]
#[ignore = "a process of the test above"]
fn lost_device() {
    library::search_in(alcyon_emulator::folder().unwrap());
    let gpu = Gpu::open_with(0, Cache::new(None)).unwrap();
    let kept = gpu.write(&[7.0_f32]).unwrap();
    let (weight, mut y) = (gpu.write(&[1.0_f32; 9]).unwrap(), gpu.write(&[0.0_f32]).unwrap());
    assert_eq!(twice(&gpu).unwrap(), [2.0, 4.0, 6.0]);
    let lost = |answer: Result<(), CudaError>| {
        assert!(
            matches!(&answer, Err(CudaError::Lost { code, .. }) if code == "CUDA_ERROR_ILLEGAL_ADDRESS"),
            "{answer:?}"
        );
    };
    lost(twice(&gpu).map(drop));
    lost(twice(&gpu).map(drop));
    lost(gpu.read(&kept, 0, &mut [0.0_f32]));
    lost(gpu.synchronize());
    lost(gpu.timed(|| Ok(())).map(drop));
    lost(gpu.memory().allocate(64 << 20).map(drop));
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    let convolution = Conv2d::new(1, 1, 1, 1, (1, 1), window).unwrap();
    let (x, weight) =
        (Slice::new(&kept, Scalar::F32, 0, 1), Slice::new(&weight, Scalar::F32, 0, 9));
    let out = SliceMut::new(&mut y, Scalar::F32, 1);
    lost(conv::forward(&gpu, &convolution, x, weight, None, &out));
    drop(kept);
    lost(gpu.memory().release());
    assert!(Gpu::open(0).is_ok(), "it is still the device that was opened");
}

// ---- the cache -----------------------------------------------------------------------------------

#[test]
fn a_kernel_comes_from_the_cache_and_broken_or_refused_code_is_compiled_once_more() {
    let Some((_gpu, _guard)) = device() else { return };
    let folder = Folder::new("cache");
    let run = || done(start("computes_through_the_cache", &folder.0, &[]));
    run();
    let files = folder.files();
    assert_eq!(files.len(), 1, "{files:?}");
    let whole = fs::read(&files[0]).unwrap();
    let written = fs::metadata(&files[0]).unwrap().modified().unwrap();
    run();
    let again = fs::metadata(&files[0]).unwrap().modified().unwrap();
    assert_eq!(again, written, "the second process compiles nothing");

    // Torn in the middle.
    fs::write(&files[0], &whole[..whole.len() / 2]).unwrap();
    run();
    assert_eq!(fs::read(&files[0]).unwrap(), whole);

    // Whole, but of no use to the driver: the key is what stands between the length and the checksum.
    let length = u64::from_le_bytes(*whole[16..].first_chunk().unwrap()) as usize;
    let key = std::str::from_utf8(&whole[24..24 + length]).unwrap();
    Cache::new(Some(folder.0.clone())).put(key, b"EMULATED KERNELS\n/nowhere.so\0");
    assert_ne!(fs::read(&files[0]).unwrap(), whole);
    run();
    assert_eq!(fs::read(&files[0]).unwrap(), whole);
}

#[test]
fn processes_that_fill_one_cache_at_once_all_compute_and_leave_one_whole_file() {
    let Some((_gpu, _guard)) = device() else { return };
    let folder = Folder::new("shared-cache");
    let children: Vec<Child> =
        (0..4).map(|_| start("computes_through_the_cache", &folder.0, &[])).collect();
    children.into_iter().for_each(|child| drop(done(child)));
    let files = folder.files();
    assert_eq!(files.len(), 1, "{files:?}");
    done(start("computes_through_the_cache", &folder.0, &[]));
}

#[test]
#[ignore = "a process of the tests above"]
fn computes_through_the_cache() {
    library::search_in(alcyon_emulator::folder().unwrap());
    let gpu = Gpu::open_with(0, Cache::new(Some(own_folder()))).unwrap();
    assert_eq!(twice(&gpu).unwrap(), [2.0, 4.0, 6.0]);
}
