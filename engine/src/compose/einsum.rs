//! einsum: sums of products by the letters of axes, as matrix products.
//!
//! Two operands at a time, from the left. With the letters of a pair in four kinds,
//!
//! ```text
//! batch        in both, and wanted later        left    in the first only
//! contracted   in both, and wanted nowhere      right   in the second only
//! ```
//!
//! a pair is one batched product [batch, left, contracted] · [batch, contracted, right].

use crate::op::halves::widened;
use crate::tensor::{History, Tensor};
use crate::{Error, Result, Shape};

impl<H: History> Tensor<H> {
    /// Einstein's sum: every letter is an axis; axes of one letter have one size and run together, and
    /// letters that the result does not have are summed over. Without `->` the result has the letters
    /// that occur once, in alphabetical order.
    ///
    /// | spec | what it is |
    /// |---|---|
    /// | `"ij,jk"` | a matrix product |
    /// | `"bhqd,bhkd->bhqk"` | the scores of attention |
    /// | `"i,j->ij"` | an outer product |
    /// | `"ij->"` | the sum of all elements |
    ///
    /// # Errors
    /// [`Error::Argument`] for a spec that cannot be read, names one axis of an operand twice (take
    /// the diagonal first) or wants a letter that no operand has; [`Error::Shape`] when operands and
    /// spec differ in number, rank or sizes.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let a = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0], [2, 2])?;
    /// let v = Tensor::from_slice(&[1.0_f64, 10.0], [2])?;
    /// assert_eq!(Tensor::einsum("ij,j->i", &[&a, &v])?.to_vec::<f64>()?, [21.0, 43.0]);
    /// assert_eq!(Tensor::einsum("ji", &[&a])?.to_vec::<f64>()?, [1.0, 3.0, 2.0, 4.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn einsum(spec: &str, operands: &[&Self]) -> Result<Self> {
        let (inputs, output) = parsed(spec)?;
        check_sizes(spec, &inputs, operands)?;
        if let Some(half) = operands.first().map(|x| x.dtype()).filter(|dtype| dtype.is_half())
            && operands.iter().all(|x| x.dtype() == half)
            && in_steps(&inputs, &output)
        {
            let wide: Vec<Self> = operands.iter().map(|x| widened(x)).collect::<Result<_>>()?;
            return Self::einsum(spec, &wide.iter().collect::<Vec<_>>())?.to_dtype(half);
        }
        let mut all =
            operands.iter().zip(inputs).map(|(&x, letters)| Labelled { x: x.clone(), letters });
        let Some(mut product) = all.next() else {
            return Err(Error::shape("einsum", "at least one operand", &[]));
        };
        let rest: Vec<Labelled<H>> = all.collect();
        for (i, next) in rest.iter().enumerate() {
            let later = rest[i + 1..].iter().flat_map(|x| &x.letters).chain(&output);
            product = product.times(next, &later.copied().collect::<Vec<_>>())?;
        }
        product.arranged(&output)
    }
}

/// Whether several ops follow on each other, which would round to 16 bits between them: more than two
/// operands, or a letter of one of them that is summed over before the product.
fn in_steps(inputs: &[Letters], output: &[char]) -> bool {
    let alone = |l: &char| {
        !output.contains(l) && inputs.iter().filter(|letters| letters.contains(l)).count() == 1
    };
    inputs.len() > 2 || inputs.len() == 2 && inputs.iter().flatten().any(alone)
}

/// A tensor whose axes have names.
struct Labelled<H: History> {
    x: Tensor<H>,
    letters: Letters,
}

type Letters = Vec<char>;

impl<H: History> Labelled<H> {
    /// The product of two, of which the letters in `later` are still wanted.
    fn times(&self, other: &Self, later: &[char]) -> Result<Self> {
        let of = |mine: &Self, theirs: &Self, shared: bool, wanted: bool| -> Letters {
            let fits =
                |l: &&char| theirs.letters.contains(l) == shared && later.contains(l) == wanted;
            mine.letters.iter().filter(fits).copied().collect()
        };
        let (batch, contracted) = (of(self, other, true, true), of(self, other, true, false));
        let (left, right) = (of(self, other, false, true), of(other, self, false, true));

        let a = self.arranged(&[&batch[..], &left, &contracted].concat())?;
        let b = other.arranged(&[&batch[..], &contracted, &right].concat())?;
        let size = |letters: &[char]| -> usize {
            let of = |l: &char| self.size(*l).or_else(|| other.size(*l)).unwrap_or(1);
            letters.iter().map(of).product()
        };
        let (n, m, k, r) = (size(&batch), size(&left), size(&contracted), size(&right));
        let (a, b) = (a.reshape([n, m, k])?, b.reshape([n, k, r])?);
        let product = if contracted.is_empty() { a.mul(&b)? } else { a.matmul(&b)? };

        let letters = [batch, left, right].concat();
        let dims: Vec<usize> = letters.iter().map(|&l| size(&[l])).collect();
        Ok(Self { x: product.reshape(Shape::new(&dims)?)?, letters })
    }

    /// The axes of these letters in this order; all others summed over.
    fn arranged(&self, letters: &[char]) -> Result<Tensor<H>> {
        let gone = |&i: &usize| !letters.contains(&self.letters[i]);
        let gone: Vec<isize> = (0..self.letters.len()).filter(gone).map(|i| i as isize).collect();
        let x = if gone.is_empty() { self.x.clone() } else { self.x.sum(&gone)? };
        let kept: Letters = self.letters.iter().filter(|l| letters.contains(l)).copied().collect();
        let place = |l| kept.iter().position(|k| k == l).map(|i| i as isize);
        let order: Vec<isize> = letters.iter().filter_map(place).collect();
        if order.is_sorted() { Ok(x) } else { x.permute(&order) }
    }

    fn size(&self, letter: char) -> Option<usize> {
        Some(self.x.shape()[self.letters.iter().position(|&l| l == letter)?])
    }
}

/// The letters of each operand, and of the result.
fn parsed(spec: &str) -> Result<(Vec<Letters>, Letters)> {
    let wrong = |expected| Error::Argument {
        op: "einsum",
        name: "spec",
        expected,
        got: format!("{spec:?}"),
    };
    let text: String = spec.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let read = |part: &str| -> Result<Letters> {
        let letters: Letters = part.chars().collect();
        if !letters.iter().all(char::is_ascii_alphabetic) {
            return Err(wrong("letters, commas and at most one ->"));
        }
        let twice = |i: usize| letters[..i].contains(&letters[i]);
        if (0..letters.len()).any(twice) {
            return Err(wrong("without one letter twice in an operand or in the result"));
        }
        Ok(letters)
    };
    let inputs: Vec<Letters> = left.split(',').map(read).collect::<Result<_>>()?;
    let all: Letters = inputs.concat();
    let output = match right {
        Some(right) => read(right)?,
        None => {
            let count = |l: &char| all.iter().filter(|&k| k == l).count();
            let mut once: Letters = all.iter().filter(|l| count(l) == 1).copied().collect();
            once.sort_unstable();
            once
        }
    };
    if !output.iter().all(|l| all.contains(l)) {
        return Err(wrong("a result whose letters some operand has"));
    }
    Ok((inputs, output))
}

/// As many operands as the spec has, of its ranks, and one size for every letter.
fn check_sizes<H: History>(spec: &str, inputs: &[Letters], operands: &[&Tensor<H>]) -> Result<()> {
    let ranks = inputs.iter().map(Vec::len).eq(operands.iter().map(|x| x.rank()));
    let axes = || inputs.iter().flatten().zip(operands.iter().flat_map(|x| x.shape().iter()));
    let agree = |(letter, size)| axes().filter(|(l, _)| *l == letter).all(|(_, s)| s == size);
    if ranks && axes().all(agree) {
        return Ok(());
    }
    let shapes: Vec<&Shape> = operands.iter().map(|x| x.shape()).collect();
    Err(Error::shape("einsum", format!("operands {spec:?}, one size for a letter"), &shapes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::sample_input;
    use crate::{DType, gradcheck};

    fn close(got: Result<Tensor>, want: Result<Tensor>) {
        let (got, want) = (got.unwrap(), want.unwrap());
        assert_eq!(got.shape(), want.shape());
        let (got, want) = (got.to_f64_vec().unwrap(), want.to_f64_vec().unwrap());
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?} {want:?}");
    }

    /// The definition: a loop over all values of all letters.
    fn naive(spec: &str, operands: &[&Tensor]) -> Tensor {
        let (inputs, output) = parsed(spec).unwrap();
        let mut letters: Letters = inputs.concat();
        letters.sort_unstable();
        letters.dedup();
        let size = |l: char| {
            let axis =
                |(x, ls): (&&Tensor, &Letters)| Some(x.shape()[ls.iter().position(|&k| k == l)?]);
            operands.iter().zip(&inputs).find_map(axis).unwrap()
        };
        let dims: Vec<usize> = output.iter().map(|&l| size(l)).collect();
        let shape = Shape::new(&dims).unwrap();
        let mut sum = vec![0.0; shape.numel()];
        let values: Vec<Vec<f64>> = operands.iter().map(|x| x.to_f64_vec().unwrap()).collect();
        for mut i in 0..letters.iter().map(|&l| size(l)).product() {
            let mut at = std::collections::HashMap::new();
            for &l in &letters {
                at.insert(l, i % size(l));
                i /= size(l);
            }
            let place = |ls: &Letters| ls.iter().fold(0, |place, &l| place * size(l) + at[&l]);
            let factors = values.iter().zip(&inputs).map(|(x, ls)| x[place(ls)]);
            sum[place(&output)] += factors.product::<f64>();
        }
        Tensor::from_vec(sum, shape).unwrap()
    }

    #[test]
    fn it_is_the_sum_over_all_values_of_all_letters() {
        let size = |l: char| l as usize % 4 + 1;
        let specs = [
            "ij,jk",
            "ij,kj->ik",
            "bij,bjk->bik",
            "bhqd,bhkd->bhqk",
            "i,i->",
            "i,j->ji",
            "ij->ji",
            "ij->j",
            "ijk->",
            "ij,ij->ij",
            "ij,i->ij",
            "ab,bc,cd->ad",
            "ab,bc,cd,da->",
            "bi,oi,bo->",
            "ijk,k->ji",
            "nc,ncd->nd",
            "i,j,k->ikj",
            "ab,c->b",
            " i j , j -> i ",
        ];
        for spec in specs {
            let (inputs, _) = parsed(spec).unwrap();
            let operands: Vec<Tensor> = inputs
                .iter()
                .enumerate()
                .map(|(i, letters)| {
                    let dims: Vec<usize> = letters.iter().map(|&l| size(l)).collect();
                    sample_input(Shape::new(&dims).unwrap()).shift(0.1 * i as f64).unwrap()
                })
                .collect();
            let operands: Vec<&Tensor> = operands.iter().collect();
            close(Tensor::einsum(spec, &operands), Ok(naive(spec, &operands)));
        }
    }

    #[test]
    fn in_sixteen_bits_a_sum_on_the_way_is_not_rounded() {
        for dtype in [DType::F16, DType::BF16] {
            // 90,000 is beyond f16, and 300 times 0.01 is not.
            let ones = Tensor::full([300, 300], 1.0, dtype);
            let small = Tensor::full([2], 2_f64.powi(-8), dtype);
            let got = Tensor::einsum("ij,k->k", &[&ones, &small]).unwrap();
            let want = Tensor::scalar(90_000.0 / 256.0, dtype).item().unwrap();
            assert_eq!((got.dtype(), got.to_f64_vec().unwrap()), (dtype, vec![want; 2]));
            let mixed = Tensor::einsum("ij,k->k", &[&ones, &Tensor::ones([2], DType::F32)]);
            assert!(matches!(mixed, Err(Error::DType { .. })), "{mixed:?}");
        }
    }

    #[test]
    fn its_gradients_agree_with_finite_differences() {
        let inputs = [sample_input([2, 3]), sample_input([3, 2]), sample_input([2])];
        let check = gradcheck::second_order(&inputs, |x| {
            crate::Var::einsum("ij,jk,k->ik", &[&x[0], &x[1], &x[2]])
        });
        assert!(check.unwrap().error < 1e-6);
    }

    #[test]
    fn what_cannot_be_read_or_does_not_fit_is_a_typed_error() {
        let x = sample_input([2, 3]);
        for spec in ["i1,j", "ii->i", "ij->ii", "ij->k", "i...->i", "ij->i->j", "i-j"] {
            let got = Tensor::einsum(spec, &[&x]);
            assert!(matches!(got, Err(Error::Argument { op: "einsum", .. })), "{spec}: {got:?}");
        }
        let fits = [("ij,jk", vec![&x, &x]), ("ij", vec![&x, &x]), ("i", vec![&x]), ("ij", vec![])];
        for (spec, operands) in fits {
            let got = Tensor::einsum(spec, &operands);
            assert!(matches!(got, Err(Error::Shape { op: "einsum", .. })), "{spec}: {got:?}");
        }
    }
}
