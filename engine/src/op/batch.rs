//! Batches of matrices whose leading axes broadcast: matrices that are used again and again stay where they are.
//!
//! cuBLAS takes products along some axes, one behind the other, in one call; along the others there is a call each.

/// The leading sizes of a batch, and its strides.
#[cfg(feature = "cuda")]
pub(crate) type Leading<'a> = (&'a [usize], &'a [usize]);

/// The leading sizes of both together.
pub(crate) fn sizes([a, b]: [&[usize]; 2]) -> Vec<usize> {
    a.iter().zip(b).map(|(&a, &b)| if a == 1 { b } else { a }).collect()
}

/// From a matrix to the next along each axis: nowhere where there is one for all.
pub(crate) fn steps(lead: &[usize], strides: &[usize]) -> Vec<usize> {
    lead.iter().zip(strides).map(|(&size, &stride)| if size == 1 { 0 } else { stride }).collect()
}

/// Where the `i`-th matrix of a batch starts.
pub(crate) fn offset_of(mut i: usize, lead: &[usize], strides: &[usize]) -> usize {
    let mut offset = 0;
    for (&size, &stride) in lead.iter().zip(strides).rev() {
        offset += i % size * stride;
        i /= size;
    }
    offset
}

/// Products of two batches of matrices whose leading axes broadcast.
#[cfg(feature = "cuda")]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Products of one call.
    pub(crate) count: usize,
    /// From a matrix to the next in a call: of a, b and c.
    pub(crate) steps: [usize; 3],
    /// The sizes of the other axes, and the same steps along each.
    others: Vec<(usize, [usize; 3])>,
}

#[cfg(feature = "cuda")]
impl Batch {
    /// Of products with results of so many numbers, and the leading sizes and strides of the operands.
    pub(crate) fn new(size: usize, operands: [Leading<'_>; 2]) -> Self {
        let lead = sizes(operands.map(|(lead, _)| lead));
        let [a, b] = operands.map(|(lead, strides)| steps(lead, strides));
        let (mut next, mut runs) = (size, Vec::<(usize, [usize; 3])>::new());
        // LOOP: outwards; an axis joins the one inside of it if it goes on where that one ends.
        for (i, &count) in lead.iter().enumerate().rev().filter(|&(_, &count)| count != 1) {
            let steps = [a[i], b[i], next];
            next *= count;
            match runs.last_mut() {
                Some((inner, of)) if of.map(|step| step * *inner) == steps => *inner *= count,
                _ => runs.push((count, steps)),
            }
        }
        let longest = (0..runs.len()).max_by_key(|&i| runs[i].0);
        let (count, steps) = longest.map_or((1, [0, 0, size]), |i| runs.remove(i));
        Self { count, steps, others: runs }
    }

    /// Where each call begins, in a, b and c.
    pub(crate) fn starts(&self) -> impl Iterator<Item = [usize; 3]> {
        let calls: usize = self.others.iter().map(|(count, _)| count).product();
        (0..calls).map(|mut i| {
            let mut at = [0; 3];
            for &(count, steps) in &self.others {
                at.iter_mut().zip(steps).for_each(|(at, step)| *at += i % count * step);
                i /= count;
            }
            at
        })
    }
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;

    #[test]
    fn axes_that_both_operands_walk_evenly_are_one_call() {
        // [3, 5] and [3, 5], without gaps, of 4 and 6 numbers: 15 products of 2 numbers.
        let batch = Batch::new(2, [(&[3, 5], &[20, 4]), (&[3, 5], &[30, 6])]);
        assert_eq!(batch, Batch { count: 15, steps: [4, 6, 2], others: vec![] });
        assert_eq!(batch.starts().collect::<Vec<_>>(), [[0; 3]]);
        // [3, 1] and [1, 5]: of the five for each of the three, a is one.
        let batch = Batch::new(2, [(&[3, 1], &[4, 4]), (&[1, 5], &[30, 6])]);
        assert_eq!(batch, Batch { count: 5, steps: [0, 6, 2], others: vec![(3, [4, 0, 10])] });
        let starts: Vec<_> = batch.starts().collect();
        assert_eq!(starts, [[0, 0, 0], [4, 0, 10], [8, 0, 20]]);
        // None at all, and a single one.
        assert_eq!(Batch::new(2, [(&[0], &[4]), (&[1], &[6])]).count, 0);
        assert_eq!(Batch::new(2, [(&[], &[]), (&[], &[])]).starts().count(), 1);
    }
}
