//! The command line, and the help that explains what is measured.

use std::path::PathBuf;

use alcyon::prelude::*;
use clap::{Parser, ValueEnum};

use crate::registry::{KERNELS, Kernel};

/// Times every kernel, and every rung of the ladders by which they were made fast, against ceilings that
/// are measured in the same run.
#[derive(Debug, Clone, Parser)]
#[command(name = "kernel_bench", after_long_help = GUIDE, max_term_width = 100)]
pub(crate) struct Cli {
    /// Where to run them: `cpu`, `cuda` or `cuda:N`.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: Device,

    /// Which kernels, separated by commas; the beginning of a name stands for all that begin so
    /// [default: all]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub(crate) op: Vec<String>,

    /// The sizes, as in `4096x256`: for one kernel only. `--list` says what they are.
    #[arg(long, value_name = "SIZES")]
    pub(crate) shape: Option<String>,

    /// The type of the numbers.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) dtype: Precision,

    /// Small sizes and few samples: a few seconds, to see that everything runs.
    #[arg(long)]
    pub(crate) quick: bool,

    /// List the kernels, their sizes and what they compute.
    #[arg(long)]
    pub(crate) list: bool,

    /// Where the plot and `results.json` go; those of `--quick` to `quick` in it.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "target/alcyon/kernel_bench",
        default_value_if("quick", "true", "target/alcyon/kernel_bench/quick")
    )]
    pub(crate) out: PathBuf,
}

/// The types that kernels compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

impl Precision {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

impl Cli {
    /// The kernels asked for.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a name that no kernel begins with.
    pub(crate) fn kernels(&self) -> Result<Vec<&'static Kernel>> {
        if self.op.is_empty() {
            return Ok(KERNELS.iter().collect());
        }
        let mut wanted = Vec::new();
        for name in &self.op {
            let exact: Vec<_> = KERNELS.iter().filter(|k| k.name == name).collect();
            let begun = || KERNELS.iter().filter(|k| k.name.starts_with(name.as_str())).collect();
            let found: Vec<_> = if exact.is_empty() { begun() } else { exact };
            if found.is_empty() {
                let known = KERNELS.iter().map(|k| k.name.to_owned()).collect();
                return Err(Error::Unknown { what: "kernel", got: name.clone(), known });
            }
            wanted.extend(found);
        }
        Ok(wanted)
    }

    /// The sizes for a kernel.
    ///
    /// # Errors
    /// [`Error::Argument`] for sizes that are not those of this one kernel.
    pub(crate) fn shape_of(&self, kernel: &Kernel) -> Result<Vec<usize>> {
        let Some(text) = &self.shape else {
            return Ok(if self.quick { kernel.quick } else { kernel.usual }.to_vec());
        };
        let sizes: Option<Vec<usize>> =
            text.split('x').map(|n| n.trim().parse().ok().filter(|&n| n > 0)).collect();
        let one = self.kernels()?.len() == 1;
        match sizes.filter(|sizes| one && sizes.len() == kernel.axes.len()) {
            Some(sizes) => Ok(sizes),
            None => Err(Error::Argument {
                op: "kernel_bench",
                name: "--shape",
                expected: "positive sizes joined by x, as many as --list has for the one kernel of --op",
                got: text.clone(),
            }),
        }
    }
}

const GUIDE: &str = "\
HOW TIME IS TAKEN
  The median of nine samples; a sample is as many runs as take five milliseconds, after one run to warm
  up. On a GPU events in the stream are the clock, so what the host does meanwhile does not count unless
  the GPU waits for it. Compare runs on a quiet machine, and only runs of one machine.

HOW TO READ THE TABLE
  GB/s        Bytes that have to move (each input read once, each output written once) over the time.
              A kernel that reads its input twice moves more, and gets no credit for it.
  GFLOP/s     Operations of the definition over the time: a function such as exp is one. A cleverer
              algorithm that needs fewer (Winograd's convolution) gets credit for all of them.
  of roof     Share of what is within reach at the kernel's operations a byte: a copy's bandwidth
              times those, or the matrix product's speed if that is less (the roofline: Williams,
              Waterman & Patterson 2009). The copy is the fastest of those, measured in the same run,
              that move as many bytes as the kernel or more: numbers that a cache holds are judged
              by that cache. Choose large sizes to learn about memory.
  difference  From the reference, the first rung (on a GPU: from what the CPU uses), the greatest over
              all numbers, relative to the larger of 1 and the number. A fast kernel with a difference
              that rounding does not explain is wrong.
  launches    On a GPU, how many kernels it takes. A time near launches times the launch overhead
              means that there is nothing to win inside the kernel.

WHICH NUMBER TO BELIEVE
  A kernel on the slanted part of the plot is bound by memory: make it touch fewer bytes, or fuse it
  with a neighbour. One below the flat part is bound by arithmetic: vectorise it. One far below both is
  bound by neither: look for latency, divergence, one thread that does the work of all.

ADD YOUR OWN
  A function of ten lines and a line in examples/kernel_bench/src/registry.rs: docs/book/src/kernels.md.

EXAMPLES
  cargo run --release -p kernel_bench
  cargo run --release -p kernel_bench -- --op softmax --shape 8192x1000
  cargo run --release -p kernel_bench -- --op conv,gram --dtype f64
  cargo run --release -p kernel_bench -- --device cuda --op adam
";
