//! Room for vectors whose size is a user's: that of a file, a shape, a setting. `vec!` and `collect` end the
//! process where there is no memory; these return [`Error::OutOfMemory`].
//!
//! | for | |
//! |---|---|
//! | a vector of zeros | [`zeros`] |
//! | a vector from an iterator | [`collect`] |
//! | a vector that is filled otherwise | [`empty`], [`more`] |
//! | what another library allocates | [`expect`] |
//! | kernels that work in memory of the pool | [`within`] |

use kernels::pool;

use crate::{Error, Result};

/// An empty vector with room for `len` elements.
///
/// # Errors
/// [`Error::OutOfMemory`], in the name of `op`.
///
/// # Example
/// ```
/// use alcyon_engine::{Error, room};
/// assert_eq!(room::empty::<f32>("read", 1000)?.capacity(), 1000);
/// assert!(matches!(room::empty::<f32>("read", 1 << 50), Err(Error::OutOfMemory { op: "read", .. })));
/// # Ok::<(), Error>(())
/// ```
pub fn empty<T>(op: &'static str, len: usize) -> Result<Vec<T>> {
    let allocate = || {
        let mut all = Vec::new();
        all.try_reserve_exact(len).ok().map(|()| all)
    };
    let bytes = len.saturating_mul(size_of::<T>());
    pool::with_room(bytes, allocate).map_err(Error::no_memory(op))
}

/// So many zeros.
///
/// # Errors
/// As [`empty`].
///
/// # Example
/// ```
/// assert_eq!(alcyon_engine::room::zeros::<u8>("read", 3)?, [0; 3]);
/// # Ok::<(), alcyon_engine::Error>(())
/// ```
pub fn zeros<T: bytemuck::Zeroable>(op: &'static str, len: usize) -> Result<Vec<T>> {
    let bytes = len.saturating_mul(size_of::<T>());
    let allocate = || bytemuck::allocation::try_zeroed_vec(len).ok();
    pool::with_room(bytes, allocate).map_err(Error::no_memory(op))
}

/// The items of an iterator, as `collect`.
///
/// # Errors
/// As [`empty`].
///
/// # Example
/// ```
/// assert_eq!(alcyon_engine::room::collect("read", (0..3).map(|i| i * i))?, [0, 1, 4]);
/// # Ok::<(), alcyon_engine::Error>(())
/// ```
pub fn collect<T>(op: &'static str, items: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let items = items.into_iter();
    let mut all = empty(op, items.size_hint().0)?;
    for item in items {
        more(op, &mut all, 1)?;
        all.push(item);
    }
    Ok(all)
}

/// Room for so many elements more in a vector, which grows to twice its length at least.
///
/// # Errors
/// As [`empty`]; the vector is as it was.
///
/// # Example
/// ```
/// let mut all = vec![1, 2];
/// alcyon_engine::room::more("read", &mut all, 3)?;
/// assert!(all.capacity() >= 5);
/// # Ok::<(), alcyon_engine::Error>(())
/// ```
pub fn more<T>(op: &'static str, all: &mut Vec<T>, count: usize) -> Result<()> {
    if all.capacity() - all.len() >= count {
        return Ok(());
    }
    let bytes = all.len().saturating_add(count.max(all.len())).saturating_mul(size_of::<T>());
    pool::with_room(bytes, || all.try_reserve(count).ok()).map_err(Error::no_memory(op))
}

/// Refuses so many bytes that another library is about to allocate, if there are not as many.
///
/// # Errors
/// [`Error::OutOfMemory`], in the name of `op`.
///
/// # Example
/// ```
/// use alcyon_engine::{Error, room};
/// assert!(room::expect("decode", 1 << 20).is_ok());
/// assert!(matches!(room::expect("decode", 1 << 50), Err(Error::OutOfMemory { op: "decode", .. })));
/// ```
pub fn expect(op: &'static str, bytes: usize) -> Result<()> {
    pool::expect_room(bytes).map_err(Error::no_memory(op))
}

/// What `work` returns, or that one of the kernels it calls found no memory to work in.
///
/// # Errors
/// Those of `work`; [`Error::OutOfMemory`], in the name of `op`.
///
/// # Example
/// ```
/// use alcyon_engine::{Error, room};
/// use kernels::pool::Buffer;
/// let zeros = |numbers| room::within("step", || Ok(Buffer::<f64>::zeros(numbers).len()));
/// assert_eq!(zeros(1000)?, 1000);
/// assert!(matches!(zeros(1 << 50), Err(Error::OutOfMemory { op: "step", .. })));
/// # Ok::<(), Error>(())
/// ```
pub fn within<R>(op: &'static str, work: impl FnOnce() -> Result<R>) -> Result<R> {
    pool::or_out_of_memory(work).map_err(Error::no_memory(op))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_collected_is_what_the_iterator_gives_whatever_length_it_announces() {
        for n in [0, 1, 7, 1000] {
            let all: Vec<usize> = (0..n).collect();
            assert_eq!(collect("test", 0..n).unwrap(), all);
            assert_eq!(collect("test", (0..n).filter(|_| true)).unwrap(), all);
        }
    }

    #[test]
    fn more_than_there_is_is_refused_by_every_one_of_them() {
        let most = usize::MAX;
        let op = |error: Error| matches!(error, Error::OutOfMemory { op: "test", .. });
        assert!(op(empty::<u64>("test", most).unwrap_err()));
        assert!(op(zeros::<u64>("test", most).unwrap_err()));
        assert!(op(collect("test", 0..most).unwrap_err()));
        assert!(op(expect("test", most).unwrap_err()));
    }
}
