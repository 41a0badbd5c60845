//! Data sets, and batches of them.
//!
//! [`open`] knows the sets by name; [`Loader`] shuffles and cuts; [`idx`] and [`csv`] read files of
//! your own. Files are never trusted: sizes in a header are compared with what is there before
//! anything of that size is allocated, and every misfit is an
//! [`Error::File`](engine::Error::File) that says what was expected and what came.

pub mod csv;
mod dataset;
mod digits;
pub mod idx;
mod iris;
mod loader;
mod open;

pub use dataset::Dataset;
pub use digits::digits;
pub use iris::iris;
pub use loader::{Batch, Epoch, Loader};
pub use open::{NAMES, open};
