//! Products of sizes, without wrapping: what lengths are compared with.

/// The number of elements of an array of some sizes, if memory can have as many.
///
/// A size of 0 counts as 1 in that question, so no product of some of the sizes wraps either.
pub(crate) fn product(sizes: &[usize]) -> Option<usize> {
    let most = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size.max(1)))?;
    let fits = most <= isize::MAX as usize;
    fits.then_some(if sizes.contains(&0) { 0 } else { most })
}

/// [`product`], for lengths that are checked by assertions.
///
/// # Panics
/// In the kernel's name, where memory has no room for as many elements.
#[track_caller]
pub(crate) fn elements<const N: usize>(kernel: &str, sizes: [usize; N]) -> usize {
    let product = product(&sizes);
    assert!(product.is_some(), "{kernel}: {sizes:?} are more elements than memory has");
    product.unwrap_or_default()
}

/// Where the last element of a strided array lies, plus one: 0 if there is none, `None` where no memory reaches.
pub(crate) fn extent(sizes: &[usize], strides: &[usize]) -> Option<usize> {
    if product(sizes)? == 0 {
        return Some(0);
    }
    let along = sizes.iter().zip(strides).map(|(&size, &stride)| (size - 1).checked_mul(stride));
    let last = along.into_iter().try_fold(0_usize, |last, along| last.checked_add(along?))?;
    last.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: usize = 1 << (usize::BITS / 2);

    #[test]
    fn a_product_that_would_wrap_is_none_even_beside_a_0() {
        assert_eq!(product(&[2, 3, 4]), Some(24));
        assert_eq!(product(&[]), Some(1));
        assert_eq!(product(&[2, 0, 4]), Some(0));
        assert_eq!(product(&[HALF, HALF]), None);
        assert_eq!(product(&[HALF, 0, HALF]), None);
        assert_eq!(product(&[usize::MAX]), None);
    }

    #[test]
    fn the_extent_is_one_more_than_the_last_place_and_nothing_has_none() {
        assert_eq!(extent(&[2, 3], &[3, 1]), Some(6));
        assert_eq!(extent(&[2, 3], &[0, 2]), Some(5));
        assert_eq!(extent(&[2, 0], &[3, 1]), Some(0));
        assert_eq!(extent(&[], &[]), Some(1));
        assert_eq!(extent(&[HALF + 1], &[HALF]), None);
        assert_eq!(extent(&[2, 2], &[usize::MAX, 1]), None);
    }
}
