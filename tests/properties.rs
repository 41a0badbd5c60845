//! Truths about tensors and gradients that hold for whatever shapes and numbers, held against
//! naive versions that go through elements one by one.

use engine::{DType, Result, Rng, Shape, Tape, Tensor, Var};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() }
}

/// Up to four axes of up to four elements, none included.
fn shapes() -> impl Strategy<Value = Vec<usize>> {
    vec(0_usize..5, 0..5)
}

/// Normal numbers that depend on the seed and the shape alone.
fn noise(dims: &[usize], seed: u64) -> Result<Tensor> {
    Ok(Tensor::normal(Shape::new(dims)?, 0.0, 1.0, DType::F64, &mut Rng::new(seed)))
}

/// The same shape with some leading axes gone and some others of size 1, as the bits say.
fn narrower(dims: &[usize], bits: u8) -> Vec<usize> {
    let gone = usize::from(bits >> 4) % (dims.len() + 1);
    let one = |(i, &size): (usize, &usize)| if bits >> i & 1 == 1 { 1 } else { size };
    dims.iter().enumerate().map(one).skip(gone).collect()
}

/// The multi-index of element `i` of a row-major array.
fn unravel(mut i: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for (at, &size) in index.iter_mut().zip(dims).rev() {
        (*at, i) = (i % size, i / size);
    }
    index
}

/// The number of an element of a row-major array; axes of size 1 are broadcast, and leading
/// entries of the multi-index that the array has no axis for ignored.
fn ravel(index: &[usize], dims: &[usize]) -> usize {
    let index = &index[index.len() - dims.len()..];
    let step = |n, (&i, &size): (&usize, &usize)| n * size + if size == 1 { 0 } else { i };
    index.iter().zip(dims).fold(0, step)
}

/// A permutation of `0..n`, by the order of random keys.
fn permutation(n: usize, keys: &[u32]) -> Vec<isize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| (keys[i], i));
    order.into_iter().map(|i| i as isize).collect()
}

fn inverse(order: &[isize]) -> Vec<isize> {
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| back[from as usize] = to as isize);
    back
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn near(a: f64, b: f64, scale: f64) -> bool {
    // A few hundred roundings of f64.
    (a - b).abs() <= 1e-13 * scale.max(1.0)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_broadcast_operation_pairs_the_elements_that_the_rule_says(
        dims in shapes(), a in any::<u8>(), b in any::<u8>(), seed in any::<u64>(),
    ) {
        let (a_dims, b_dims) = (narrower(&dims, a), narrower(&dims, b));
        let (a, b) = (noise(&a_dims, seed)?, noise(&b_dims, !seed)?);
        let (x, y) = (a.to_vec::<f64>()?, b.to_vec::<f64>()?);
        let difference = a.sub(&b)?;
        let larger = a.maximum(&b)?.to_vec::<f64>()?;
        let which = a.greater(&b)?.select(&a, &b)?.to_vec::<f64>()?;
        for (n, got) in difference.to_vec::<f64>()?.into_iter().enumerate() {
            let index = unravel(n, difference.shape());
            let (x, y) = (x[ravel(&index, &a_dims)], y[ravel(&index, &b_dims)]);
            prop_assert_eq!(got, x - y);
            prop_assert_eq!(larger[n], x.max(y));
            prop_assert_eq!(which[n], x.max(y));
        }
        // Each output axis comes from one of the two.
        let rank = a_dims.len().max(b_dims.len());
        prop_assert_eq!(difference.rank(), rank);
    }

    #[test]
    fn broadcasting_and_summing_to_are_adjoint(
        dims in shapes(), bits in any::<u8>(), seed in any::<u64>(),
    ) {
        let (x, g) = (noise(&narrower(&dims, bits), seed)?, noise(&dims, !seed)?);
        let there = x.broadcast_to(g.shape())?.to_vec::<f64>()?;
        let back = g.sum_to(x.shape())?.to_vec::<f64>()?;
        let (left, right) = (inner(&there, &g.to_vec()?), inner(&x.to_vec()?, &back));
        prop_assert!(near(left, right, 1e3), "{left} and {right}");
    }

    #[test]
    fn a_permutation_moves_every_element_and_its_inverse_brings_it_back(
        dims in shapes(), keys in vec(any::<u32>(), 5), seed in any::<u64>(),
    ) {
        let x = noise(&dims, seed)?;
        let order = permutation(dims.len(), &keys);
        let moved = x.permute(&order)?;
        let values = x.to_vec::<f64>()?;
        for (n, got) in moved.to_vec::<f64>()?.into_iter().enumerate() {
            let there = unravel(n, moved.shape());
            let mut here = vec![0; dims.len()];
            order.iter().zip(&there).for_each(|(&from, &i)| here[from as usize] = i);
            prop_assert_eq!(got, values[ravel(&here, &dims)]);
        }
        let back = moved.permute(&inverse(&order))?;
        prop_assert_eq!(back.shape(), x.shape());
        prop_assert_eq!(back.to_vec::<f64>()?, values);
    }

    #[test]
    fn a_sum_over_any_axes_is_the_sum_one_by_one(
        dims in shapes(), bits in any::<u8>(), seed in any::<u64>(),
    ) {
        let x = noise(&dims, seed)?;
        let gone = |i: usize| bits >> i & 1 == 1;
        let axes: Vec<isize> = (0..dims.len()).filter(|&i| gone(i)).map(|i| i as isize).collect();
        let kept: Vec<usize> = (0..dims.len()).map(|i| if gone(i) { 1 } else { dims[i] }).collect();
        let mut want = vec![0.0; kept.iter().product()];
        for (n, x) in x.to_vec::<f64>()?.into_iter().enumerate() {
            want[ravel(&unravel(n, &dims), &kept)] += x;
        }
        let sums = [x.sum(&axes)?, x.sum_keep(&axes)?];
        prop_assert_eq!(&sums[1].shape()[..], &kept[..]);
        prop_assert_eq!(sums[0].rank() + axes.len(), dims.len());
        for sum in sums {
            let got = sum.to_vec::<f64>()?;
            prop_assert_eq!(got.len(), want.len());
            prop_assert!(got.iter().zip(&want).all(|(a, b)| near(*a, *b, 1e3)), "{got:?} {want:?}");
        }
    }

    #[test]
    fn a_maximum_is_where_argmax_says_and_nothing_is_larger(
        dims in vec(1_usize..5, 1..5), axis in any::<u8>(), seed in any::<u64>(),
    ) {
        let x = noise(&dims, seed)?;
        let axis = usize::from(axis) % dims.len();
        let (max, at) = (x.max_keep(axis as isize)?, x.argmax(axis as isize)?.to_vec::<i64>()?);
        let (values, maxima) = (x.to_vec::<f64>()?, max.to_vec::<f64>()?);
        for (n, &x) in values.iter().enumerate() {
            prop_assert!(x <= maxima[ravel(&unravel(n, &dims), max.shape())]);
        }
        for (n, (&max_value, &at)) in maxima.iter().zip(&at).enumerate() {
            let mut index = unravel(n, max.shape());
            index[axis] = at as usize;
            prop_assert_eq!(max_value, values[ravel(&index, &dims)]);
        }
    }

    #[test]
    fn a_matrix_product_is_the_triple_loop_also_of_transposed_and_narrowed_views(
        (m, k, n) in (0_usize..7, 0_usize..7, 0_usize..7), batch in 1_usize..4,
        views in any::<[bool; 3]>(), seed in any::<u64>(),
    ) {
        // LOOP over views: each matrix lies transposed, or inside a wider one, or as it is.
        let lay = |rows: usize, columns: usize, seed: u64| -> Result<Tensor> {
            let (wider, left) = if views[2] { (columns + 3, 2) } else { (columns, 0) };
            let stored = if views[usize::from(seed % 2 == 1)] {
                noise(&[batch, wider, rows], seed)?.transpose(1, 2)?
            } else {
                noise(&[batch, rows, wider], seed)?
            };
            stored.narrow(2, left, columns)
        };
        let (a, b) = (lay(m, k, seed & !1)?, lay(k, n, seed | 1)?);
        let (x, y) = (a.to_vec::<f64>()?, b.to_vec::<f64>()?);
        let product = a.matmul(&b)?;
        prop_assert_eq!(&product.shape()[..], &[batch, m, n][..]);
        for (at, got) in product.to_vec::<f64>()?.into_iter().enumerate() {
            let [s, i, j] = unravel(at, &[batch, m, n])[..] else { unreachable!() };
            let want: f64 = (0..k).map(|l| x[(s * m + i) * k + l] * y[(s * k + l) * n + j]).sum();
            prop_assert!(near(got, want, 10.0), "{got} and {want}");
        }
    }

    #[test]
    fn a_reshaped_view_has_the_same_elements_in_the_same_order_and_comes_back(
        dims in shapes(), keys in vec(any::<u32>(), 5), seed in any::<u64>(),
    ) {
        let x = noise(&dims, seed)?.permute(&permutation(dims.len(), &keys))?;
        let flat = x.reshape([x.numel()])?;
        prop_assert_eq!(flat.to_vec::<f64>()?, x.to_vec::<f64>()?);
        let back = flat.reshape(x.shape())?;
        prop_assert_eq!(back.shape(), x.shape());
        prop_assert_eq!(back.to_vec::<f64>()?, x.to_vec::<f64>()?);
    }

    #[test]
    fn what_is_cut_along_an_axis_and_joined_again_is_the_same(
        dims in vec(0_usize..6, 1..5), axis in any::<u8>(), cuts in any::<[u8; 2]>(),
        keys in vec(any::<u32>(), 5), seed in any::<u64>(),
    ) {
        let x = noise(&dims, seed)?.permute(&permutation(dims.len(), &keys))?;
        let axis = usize::from(axis) % dims.len();
        let size = x.shape()[axis];
        let mut ends = cuts.map(|cut| usize::from(cut) % (size + 1));
        ends.sort_unstable();
        let sizes = [ends[0], ends[1] - ends[0], size - ends[1]];
        let parts = x.split(&sizes, axis as isize)?;
        prop_assert_eq!(parts.iter().map(|p| p.shape()[axis]).collect::<Vec<_>>(), &sizes[..]);
        let whole = Tensor::concat(&parts.iter().collect::<Vec<_>>(), axis as isize)?;
        prop_assert_eq!(whole.to_vec::<f64>()?, x.to_vec::<f64>()?);
    }

    #[test]
    fn gather_with_a_permutation_is_undone_by_scatter_add(
        dims in vec(1_usize..6, 1..4), keys in vec(any::<u32>(), 6), seed in any::<u64>(),
    ) {
        let x = noise(&dims, seed)?;
        let order: Vec<i64> = permutation(dims[0], &keys).into_iter().map(|i| i as i64).collect();
        let index = Tensor::from_slice(&order, [order.len()])?;
        let back = x.gather(0, &index)?.scatter_add(0, &index, dims[0])?;
        prop_assert_eq!(back.to_vec::<f64>()?, x.to_vec::<f64>()?);
    }
}

/// A small network whose scalar value uses a good part of the ops: tanh(x Wᵀ + b), twice, then a
/// softmax, of which two different functionals are taken.
struct Network {
    x: Tensor,
    parameters: Vec<Tensor>,
    weights: Tensor,
}

impl Network {
    fn new([rows, input, hidden, output]: [usize; 4], seed: u64) -> Result<Self> {
        let shapes: [&[usize]; 4] = [&[hidden, input], &[hidden], &[output, hidden], &[output]];
        let nth = |(i, dims): (usize, &&[usize])| noise(dims, seed.wrapping_add(i as u64 + 3));
        Ok(Self {
            x: noise(&[rows, input], seed.wrapping_add(1))?,
            parameters: shapes.iter().enumerate().map(nth).collect::<Result<_>>()?,
            weights: noise(&[rows, output], seed.wrapping_add(2))?,
        })
    }

    /// Two losses of the same outputs, and the parameters on the tape.
    fn losses(&self, tape: &Tape) -> Result<(Vec<Var>, [Var; 2])> {
        let p: Vec<Var> = self.parameters.iter().map(|p| tape.watch(p.clone())).collect();
        let hidden = tape.input(self.x.clone()).linear(&p[0], Some(&p[1]))?.tanh()?;
        let outputs = hidden.linear(&p[2], Some(&p[3]))?;
        let first = outputs.tanh()?.mul(&tape.input(self.weights.clone()))?.sum_all()?;
        let second = outputs.softmax(-1)?.square()?.mean_all()?;
        Ok((p, [first, second]))
    }

    /// Σ over parameters of ⟨direction, gradient of the loss⟩, as a value on the tape.
    fn slope(&self, tape: &Tape, direction: &[Tensor]) -> Result<(Vec<Var>, Var)> {
        let (p, [first, second]) = self.losses(tape)?;
        let grads = tape.backward_recorded(&first.add(&second)?)?;
        let mut slope = tape.input(Tensor::scalar(0.0, DType::F64));
        for (p, v) in p.iter().zip(direction) {
            if let Some(g) = grads.of_var(p) {
                slope = slope.add(&g.mul(&tape.input(v.clone()))?.sum_all()?)?;
            }
        }
        Ok((p, slope))
    }

    fn directions(&self, seed: u64) -> Result<Vec<Tensor>> {
        let nth = |(i, p): (usize, &Tensor)| noise(p.shape(), seed.wrapping_add(i as u64));
        self.parameters.iter().enumerate().map(nth).collect()
    }

    /// The Hessian times a direction, all parameters one after another.
    fn hessian_product(&self, direction: &[Tensor]) -> Result<Vec<f64>> {
        let tape = Tape::new();
        let (p, slope) = self.slope(&tape, direction)?;
        flat(&tape, &slope, &p)
    }
}

/// The gradient of a loss, all parameters one after another.
fn flat(tape: &Tape, loss: &Var, p: &[Var]) -> Result<Vec<f64>> {
    let grads = tape.backward(loss)?;
    let of = |p: &Var| match grads.of_var(p) {
        Some(g) => g.to_vec::<f64>(),
        None => Ok(vec![0.0; p.numel()]),
    };
    Ok(p.iter().map(of).collect::<Result<Vec<_>>>()?.concat())
}

fn values(tensors: &[Tensor]) -> Result<Vec<f64>> {
    Ok(tensors.iter().map(Tensor::to_vec::<f64>).collect::<Result<Vec<_>>>()?.concat())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn backward_is_linear_in_the_loss(
        sizes in [1_usize..5, 1_usize..5, 1_usize..5, 1_usize..5], seed in any::<u64>(),
        (alpha, beta) in (-2.0_f64..2.0, -2.0_f64..2.0),
    ) {
        let network = Network::new(sizes, seed)?;
        let tape = Tape::new();
        let (p, [first, second]) = network.losses(&tape)?;
        let mixed = first.scale(alpha)?.add(&second.scale(beta)?)?;
        let (f, g) = (flat(&tape, &first, &p)?, flat(&tape, &second, &p)?);
        for ((f, g), got) in f.iter().zip(&g).zip(flat(&tape, &mixed, &p)?) {
            let want = alpha * f + beta * g;
            prop_assert!(near(got, want, 100.0), "{got} and {want}");
        }
    }

    #[test]
    fn the_hessian_is_symmetric(
        sizes in [1_usize..4, 1_usize..4, 1_usize..4, 1_usize..4], seed in any::<u64>(),
    ) {
        let network = Network::new(sizes, seed)?;
        let (u, v) = (network.directions(seed ^ 0x5555)?, network.directions(seed ^ 0xAAAA)?);
        let left = inner(&values(&u)?, &network.hessian_product(&v)?);
        let right = inner(&values(&v)?, &network.hessian_product(&u)?);
        prop_assert!((left - right).abs() < 1e-11 * left.abs().max(1.0), "{left} and {right}");
    }

    #[test]
    fn a_recorded_gradient_is_the_gradient(
        sizes in [1_usize..5, 1_usize..5, 1_usize..5, 1_usize..5], seed in any::<u64>(),
    ) {
        let network = Network::new(sizes, seed)?;
        let tape = Tape::new();
        let (p, [first, second]) = network.losses(&tape)?;
        let loss = first.add(&second)?;
        let recorded = tape.backward_recorded(&loss)?;
        let want = flat(&tape, &loss, &p)?;
        let mut got = Vec::new();
        for p in &p {
            if let Some(g) = recorded.of_var(p) {
                got.extend(g.to_vec::<f64>()?);
            }
        }
        prop_assert_eq!(got.len(), want.len());
        prop_assert!(got.iter().zip(&want).all(|(a, b)| near(*a, *b, 100.0)), "{got:?} {want:?}");
    }
}
