//! Programs of ops: each input a list of calls with sizes and axes that nobody should give.

use alcyon::engine::History;
use alcyon::engine::compose::Padding;
use alcyon::engine::ops::attention::AttentionMask;
use alcyon::engine::ops::interpolate::Interpolation;
use alcyon::prelude::{DType, Error, Geometry, Result, Shape, Tape, Tensor, Var, Window};

/// Values that are kept are smaller than this: what is refused is the point, not what takes long.
const MOST: usize = 1 << 10;

/// An op gives what its shape says, the same on a tape as off it, or an error; and the gradient of what came of a
/// program has its input's shape.
pub fn ops(bytes: &[u8]) -> bool {
    let tape = Tape::new();
    let start = Tensor::from_fn([2, 3, 4], DType::F64, |i| i as f64 - 11.5);
    let x = tape.watch(start);
    let mut values = vec![x.clone()];
    let mut program = Program { bytes };
    for _ in 0..12 {
        let call = program;
        let Some(result) = program.call(&values) else { break };
        let plain: Vec<Tensor> = values.iter().map(Var::value).collect();
        let off = { call }.call(&plain);
        match (result, off) {
            (Ok(y), Some(Ok(off))) => {
                assert_eq!((y.shape(), y.dtype()), (off.shape(), off.dtype()));
                if y.numel() <= MOST {
                    let (on, off) = (y.value().to_f64_vec().unwrap(), off.to_f64_vec().unwrap());
                    assert_eq!(on.len(), y.numel());
                    let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&on), bits(&off));
                    values.push(y);
                }
            }
            // A tensor that is recorded is larger than one that is not, and so is a vector of them.
            (
                Err(Error::OutOfMemory { op: a, .. }),
                Some(Err(Error::OutOfMemory { op: b, .. })),
            ) => {
                assert_eq!(a, b);
            }
            (Err(a), Some(Err(b))) => assert_eq!(a.to_string(), b.to_string()),
            (a, b) => panic!("{a:?} on a tape, {b:?} off it"),
        }
    }
    let floats = values.iter().rev().find(|v| v.dtype().is_float());
    if let Some(loss) = floats.and_then(|y| y.sum_all().ok())
        && let Ok(gradients) = tape.backward(&loss)
        && let Some(gradient) = gradients.of_var(&x)
    {
        assert_eq!(gradient.shape(), x.shape());
        return true;
    }
    false
}

/// Calls, a byte for each choice.
#[derive(Clone, Copy)]
struct Program<'a> {
    bytes: &'a [u8],
}

/// Sizes whose products and sums wrap, beside those that fit.
const SIZES: [usize; 16] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    12,
    24,
    1 << 36,
    1 << 59,
    1 << 60,
    1 << 62,
    isize::MAX as usize,
    usize::MAX,
];

const AXES: [isize; 8] = [0, 1, 2, -1, -2, 3, isize::MIN, isize::MAX];

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        *first
    }

    fn size(&mut self) -> usize {
        SIZES[usize::from(self.byte()) % SIZES.len()]
    }

    fn pair(&mut self) -> (usize, usize) {
        (self.size(), self.size())
    }

    fn axis(&mut self) -> isize {
        AXES[usize::from(self.byte()) % AXES.len()]
    }

    fn axes(&mut self) -> Vec<isize> {
        (0..self.byte() % 5).map(|_| self.axis()).collect()
    }

    fn shape(&mut self) -> Shape {
        match self.byte() % 5 {
            0 => Shape::SCALAR,
            1 => [self.size()].into(),
            2 => [self.size(), self.size()].into(),
            3 => [self.size(), self.size(), self.size()].into(),
            _ => std::array::from_fn::<_, 6, _>(|_| self.size()).into(),
        }
    }

    fn geometry(&mut self) -> Geometry {
        let (kernel, stride, padding, dilation) =
            (self.pair(), self.pair(), self.pair(), self.pair());
        Geometry { window: Window { kernel, stride, padding, dilation }, groups: self.size() }
    }

    /// The next call; none when the program ends.
    fn call<H: History>(&mut self, values: &[Tensor<H>]) -> Option<Result<Tensor<H>>> {
        (!self.bytes.is_empty()).then(|| {
            let what = self.byte();
            let mut pick = || &values[usize::from(self.byte()) % values.len()];
            let (x, y, z) = (pick(), pick(), pick());
            match what % 3 {
                0 => self.view(x, y),
                1 => self.compute(x, y, z),
                _ => self.window(x, y),
            }
        })
    }

    /// Ops that move numbers.
    fn view<H: History>(&mut self, x: &Tensor<H>, y: &Tensor<H>) -> Result<Tensor<H>> {
        match self.byte() % 18 {
            0 => x.reshape(self.shape()),
            1 => x.permute(&self.axes()),
            2 => x.transpose(self.axis(), self.axis()),
            3 => x.narrow(self.axis(), self.size(), self.size()),
            4 => x.broadcast_to(self.shape()),
            5 => x.sum_to(&self.shape()),
            6 => x.flatten(self.axis()),
            7 => x.gather(self.axis(), y),
            8 => x.take_along(self.axis(), y),
            9 => x.scatter_add(self.axis(), y, self.size()),
            10 => Tensor::concat(&[x, y], self.axis()),
            11 => Tensor::stack(&[x, y, x], self.axis()),
            12 => {
                let (sizes, axis) = ([self.size(), self.size()], self.axis());
                x.split(&sizes, axis).map(|parts| parts[1].clone())
            }
            13 => x.chunk(self.size(), self.axis()).map(|parts| parts[0].clone()),
            14 => {
                let with = [Padding::Constant(1.0), Padding::Reflect, Padding::Edge];
                x.pad(self.axis(), self.size(), self.size(), with[usize::from(self.byte() % 3)])
            }
            15 => {
                let shifts = [self.axis(), self.axis()];
                x.roll(&shifts, &self.axes())
            }
            16 => x.flip(&self.axes()),
            _ => x.contiguous(),
        }
    }

    /// Ops that compute them.
    fn compute<H: History>(
        &mut self,
        x: &Tensor<H>,
        y: &Tensor<H>,
        z: &Tensor<H>,
    ) -> Result<Tensor<H>> {
        match self.byte() % 22 {
            0 => x.add(y),
            1 => x.select(y, z),
            2 => x.matmul(y),
            3 => x.linear(y, Some(z)),
            4 => x.embedding(y),
            5 => x.attention(y, z, AttentionMask::Causal, 0.5),
            6 => x.sum(&self.axes()),
            7 => x.mean_keep(&self.axes()),
            8 => x.variance(&self.axes()),
            9 => x.max(self.axis()),
            10 => x.argmax(self.axis()),
            11 => x.argsort(self.axis(), true),
            12 => x.topk(self.size(), self.axis()).map(|(values, _)| values),
            13 => x.cumsum(self.axis()),
            14 => x.softmax(self.axis()),
            15 => x.logsumexp(self.axis()),
            16 => x.tril(self.axis()),
            17 => x.to_dtype([DType::I64, DType::F32, DType::F16][usize::from(self.byte() % 3)]),
            18 => x.cross_entropy(y),
            19 => x.layer_norm(Some(y), Some(z), 1e-5),
            20 => x.greater(y),
            _ => {
                let spec: Vec<u8> = (0..self.byte() % 12)
                    .map(|_| b"ijkl,->"[usize::from(self.byte() % 7)])
                    .collect();
                Tensor::einsum(&String::from_utf8_lossy(&spec), &[x, y])
            }
        }
    }

    /// Ops that slide a window.
    fn window<H: History>(&mut self, x: &Tensor<H>, y: &Tensor<H>) -> Result<Tensor<H>> {
        match self.byte() % 9 {
            0 => x.conv2d(y, None, self.geometry()),
            1 => x.conv1d(y, None, self.geometry()),
            2 => x.conv_transpose2d(y, None, self.geometry(), self.pair()),
            3 => x.avg_pool2d(self.geometry().window, self.byte().is_multiple_of(2)),
            4 => x.max_pool2d(self.geometry().window),
            5 => x.adaptive_avg_pool2d(self.pair()),
            6 => x.adaptive_max_pool2d(self.pair()),
            7 => x.interpolate(self.pair(), Interpolation::Nearest),
            _ => x.interpolate(self.pair(), Interpolation::Bilinear { align_corners: true }),
        }
    }
}
