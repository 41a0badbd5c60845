//! The kernels. To add one: write a function in a file of `kernels/` that makes a [`Case`], and a line
//! here.

use alcyon::prelude::*;

use crate::case::{At, Case};
use crate::cli::Precision;
use crate::kernels::{convolution, matrix, memory, moments, rows, updates};

/// A kernel by name.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// What it computes.
    pub(crate) about: &'static str,
    /// What its sizes are.
    pub(crate) axes: &'static [&'static str],
    /// Larger than a second-level cache.
    pub(crate) usual: &'static [usize],
    /// For `--quick`.
    pub(crate) quick: &'static [usize],
    f32: Make,
    f64: Make,
}

type Make = fn(&At<'_>) -> Result<Case>;

impl Kernel {
    pub(crate) fn case(&self, dtype: Precision, at: &At<'_>) -> Result<Case> {
        match dtype {
            Precision::F32 => (self.f32)(at),
            Precision::F64 => (self.f64)(at),
        }
    }
}

/// One line for each kernel: name, what it computes; its sizes' letters; sizes; the function.
macro_rules! kernels {
    ($($name:literal, $about:literal, $axes:expr, $usual:expr, $quick:expr, $file:ident::$make:ident;)*) => {
        &[$(Kernel {
            name: $name,
            about: $about,
            axes: &$axes,
            usual: &$usual,
            quick: &$quick,
            f32: $file::$make::<f32>,
            f64: $file::$make::<f64>,
        }),*]
    };
}

/// Rows and their width.
const ROWS: [&str; 2] = ["rows", "width"];
/// A convolution with a 3 × 3 window and padding 1.
const CONV: [&str; 5] = ["images", "channels", "outputs", "height", "width"];
/// Numbers.
const N: [&str; 1] = ["n"];

/// All of them.
pub(crate) const KERNELS: &[Kernel] = kernels! {
    "copy", "y = x", N, [1 << 22], [1 << 14], memory::copy;
    "add", "y = a + b", N, [1 << 22], [1 << 14], memory::add;
    "exp", "y = exp x", N, [1 << 22], [1 << 14], memory::exp;
    "transpose", "y = xT", ROWS, [2048, 2048], [64, 48], memory::transpose;
    "gather", "rows of a table", ROWS, [16384, 256], [64, 32], memory::gather;
    "sum_rows", "y[r] = sum of row r", ROWS, [4096, 1024], [64, 48], rows::sum_rows;
    "sum_columns", "y[j] = sum of column j", ROWS, [4096, 1024], [64, 48], rows::sum_columns;
    "softmax", "y = softmax of each row", ROWS, [4096, 256], [64, 48], rows::softmax;
    "cross_entropy", "log softmax, and the mean at labels", ROWS, [4096, 256], [64, 48], rows::cross_entropy;
    "layer_norm", "rows less their mean, over their deviation", ROWS, [4096, 256], [64, 48], rows::layer_norm;
    "rms_norm", "rows over their root mean square", ROWS, [4096, 256], [64, 48], rows::rms_norm;
    "batch_moments", "mean and variance of each channel", ["images", "channels", "pixels"],
        [64, 64, 256], [4, 8, 16], rows::batch_moments;
    "max_pool", "largest of windows of 2 x 2", ["planes", "height", "width"], [4096, 32, 32], [8, 8, 8],
        rows::max_pool;
    "gemm", "C = A B", ["m", "k", "n"], [512, 512, 512], [48, 64, 32], matrix::gemm;
    "conv_output", "y = x * w", CONV, [64, 16, 32, 14, 14], [2, 4, 8, 6, 6], convolution::conv_output;
    "conv_input_gradient", "dx = g * w, turned", CONV, [64, 16, 32, 14, 14], [2, 4, 8, 6, 6],
        convolution::conv_input_gradient;
    "conv_weight_gradient", "dw = x * g", CONV, [64, 16, 32, 14, 14], [2, 4, 8, 6, 6],
        convolution::conv_weight_gradient;
    "conv_pointwise", "y = x * w of 1 x 1", CONV, [64, 64, 64, 28, 28], [2, 4, 8, 6, 6],
        convolution::conv_pointwise;
    "conv_depthwise", "y = x * w, each channel by itself", ["images", "channels", "height", "width"],
        [64, 64, 28, 28], [2, 4, 6, 6], convolution::conv_depthwise;
    "attention", "softmax(Q KT / sqrt d) V, causal", ["heads", "tokens", "width"], [32, 256, 32], [2, 16, 8],
        matrix::attention;
    "column_squares", "y[j] = sum of x[r, j]^2: AdaFisher's factor", ROWS, [4096, 256], [64, 48],
        moments::column_squares;
    "patch_squares", "the same of a convolution's patches", CONV, [64, 16, 32, 14, 14], [2, 4, 8, 6, 6],
        moments::patch_squares;
    "gram", "xT x: K-FAC's factor", ROWS, [4096, 256], [64, 48], moments::gram;
    "patch_gram", "the same of a convolution's patches", CONV, [64, 16, 32, 14, 14], [2, 4, 8, 6, 6],
        moments::patch_gram;
    "sgd", "a step with momentum", N, [1 << 21], [1 << 14], updates::sgd;
    "adam", "a step of AdamW", N, [1 << 21], [1 << 14], updates::adam;
    "adafisher", "a step of AdaFisher on a weight", ["outputs", "inputs"], [4096, 512], [128, 96],
        updates::adafisher;
};

#[cfg(test)]
mod tests {
    use alcyon::kernels::cuda::cache::Cache;
    use alcyon::kernels::cuda::{Gpu, library};

    use super::*;
    use crate::measure::{difference, first_run};

    /// Rungs add in other orders; Winograd's convolution loses a digit more.
    fn tolerance(dtype: Precision) -> f64 {
        match dtype {
            Precision::F32 => 2e-4,
            Precision::F64 => 1e-12,
        }
    }

    fn all_agree(gpu: Option<&std::sync::Arc<Gpu>>) {
        for kernel in KERNELS {
            assert_eq!(kernel.axes.len(), kernel.usual.len(), "{}", kernel.name);
            for dtype in [Precision::F32, Precision::F64] {
                let mut case = kernel.case(dtype, &At { shape: kernel.quick, gpu }).unwrap();
                assert!(case.bytes > 0.0 && case.flops >= 0.0, "{}", kernel.name);
                let expected = first_run(&mut case.rungs[0]).unwrap();
                assert!(!expected.is_empty() && expected.iter().all(|x| x.is_finite()));
                for rung in &mut case.rungs[1..] {
                    let far = difference(&expected, &first_run(rung).unwrap());
                    assert!(far <= tolerance(dtype), "{} {}: {far:e}", kernel.name, rung.name);
                }
            }
        }
    }

    #[test]
    fn every_rung_of_every_kernel_gives_the_references_numbers_in_both_types() {
        all_agree(None);
    }

    #[test]
    fn every_kernel_of_the_device_does_so_too_on_the_emulator() {
        let Ok(folder) = alcyon_emulator::folder() else { return };
        library::search_in(folder);
        let gpu = Gpu::open_with(0, Cache::new(None)).unwrap();
        assert_eq!(gpu.info().name, "emulated");
        all_agree(Some(&gpu));
    }

    #[test]
    fn names_are_all_different() {
        let mut names: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KERNELS.len());
    }
}
