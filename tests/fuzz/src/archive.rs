//! Tar archives of pictures.

use alcyon::nn::data::image_folder;

use super::accepted;
use super::scratch::Scratch;

thread_local!(static SCRATCH: Scratch = Scratch::new());

/// Both splits have the same classes and only those, and no more pictures than the archive has bytes for. Checksums of
/// headers are made right first, so that what they say is believed.
pub fn archive(bytes: &[u8]) -> bool {
    let file = SCRATCH.with(|scratch| scratch.write("pictures.tar", &believable(bytes)));
    let Some((train, test)) = accepted(image_folder::open(&file), &file) else { return false };
    assert_eq!(train.classes, test.classes);
    let gzipped = bytes.starts_with(&[0x1f, 0x8b]);
    assert!(gzipped || train.len() + test.len() <= bytes.len() / 512);
    for images in [&train, &test] {
        assert!(!images.is_empty());
        let known = |label: &i64| (0..images.classes.len() as i64).contains(label);
        assert!(images.labels().iter().all(known));
        // Two pictures of different sides are no data set, by an error of shapes.
        if let Ok(pixels) = images.in_memory() {
            assert_eq!(pixels.len(), images.len());
        }
    }
    true
}

/// The archive with the checksum of each header as it should be: the sum of the header's bytes, its own eight as spaces.
fn believable(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}
