//! What a file may cost: every limit of every reader, in one place.
//!
//! Files are not to be trusted. A reader refuses with [`Error::File`](engine::Error::File) before it passes its
//! limit, and a limit holds over all copies that the reader makes. b is the size of the file.
//!
//! | reader | the file | memory while it is read, at most |
//! |---|---|---|
//! | gzip | any | what the reader inside takes, and of the stream 100 b + 64 MiB |
//! | IDX | 1 GiB of numbers | the numbers, twice while their buffer grows |
//! | CIFAR, binary and Python | 256 MiB | 3 b, and 4 million values of a pickle |
//! | tar | 512 MiB an entry | what is in it; gzipped: 20 b + 64 MiB in all |
//! | JPEG, PNG | 64 MiB, sides up to 16,384 | b + 256 MiB |
//! | CSV | 256 MiB, 2²⁰ columns, 2²⁰ classes | 10 b + 256 MiB |
//! | text | 4 GiB | 2 b |
//! | tokenizer | 64 MiB | 64 b |
//! | safetensors | any; 16 MiB of header | 2 b + 512 MiB |

/// A gzip stream may give this many times what has been read of it. Deflate can reach 1,032; texts and
/// pictures stay below 20.
pub const EXPANSION: u64 = 100;

/// The same for a gzipped archive, all of which is kept: pictures hardly shrink.
pub const ARCHIVE_EXPANSION: u64 = 20;

/// What any gzip stream may give, however small it is.
pub const ALLOWANCE: u64 = 64 << 20;

/// Numbers of an IDX file: ten times the largest of the MNIST family.
pub const IDX: u64 = 1 << 30;

/// A file of CIFAR: more than the largest of either set.
pub const CIFAR: u64 = 256 << 20;

/// Values, marks and memories of a pickle; CIFAR-100's have a quarter of a million.
pub const PICKLE_VALUES: usize = 1 << 22;

/// The largest file inside an archive that is kept.
pub const ARCHIVE_ENTRY: u64 = 512 << 20;

/// A JPEG or PNG as it is on disk.
pub const PICTURE_FILE: u64 = 64 << 20;

/// No side of a picture is longer.
pub const PICTURE_SIDE: u32 = 16_384;

/// A decoded picture with all copies of it.
pub const PICTURE: u64 = 256 << 20;

/// A list of names beside pictures.
pub const LIST: u64 = 64 << 20;

/// A table.
pub const CSV: u64 = 256 << 20;

/// Columns, and classes, of a table.
pub const CSV_NAMES: usize = 1 << 20;

/// A text that is read whole.
pub const TEXT: u64 = 4 << 30;

/// A vocabulary: three times the largest that is in use.
pub const TOKENIZER: u64 = 64 << 20;

/// The header of a safetensors file.
pub const SAFETENSORS_HEADER: u64 = 16 << 20;
