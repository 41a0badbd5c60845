//! Data sets, and batches of them.
//!
//! [`open`] knows the sets by name, [`open_images`] gives their pictures as bytes; [`Loader`] shuffles
//! and cuts; [`idx`], [`csv`] and [`image_folder`] read files of your own. Files are never trusted: sizes in a header are compared with what is there before
//! anything of that size is allocated, [`limits`] says what a file may cost, and every misfit is an
//! [`Error::File`](engine::Error::File) that says what was expected and what came.

pub mod augment;
mod bigram;
mod cifar;
pub mod csv;
mod dataset;
mod digits;
mod examples;
pub(crate) mod file;
pub mod idx;
pub mod image_folder;
mod images;
mod iris;
pub mod limits;
mod loader;
mod normalise;
mod open;
mod passed_over;
mod picture;
mod prefetch;
mod projection;
mod text;
mod token_stream;
mod tokenizer;
mod tree;

pub use bigram::bigram_perplexity;
pub use dataset::Dataset;
pub use digits::digits;
pub use examples::{Batch, Draw, Examples};
pub use images::Images;
pub use iris::iris;
pub use loader::{Epoch, Loader};
pub use normalise::Normalise;
pub use open::{NAMES, open, open_images};
pub use passed_over::PassedOver;
pub use projection::Projection;
pub use text::{Corpus, TEXTS, open_text, read_text};
pub use token_stream::TokenWindows;
pub use tokenizer::{END_OF_LINE, Tokenizer, UNKNOWN};
