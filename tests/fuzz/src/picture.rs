//! Pictures: PNG and JPEG, read as people do, from a folder.

use alcyon::nn::data::image_folder;

use super::scratch::Scratch;
use super::{accepted, bits, read_again};

thread_local!(static SCRATCH: Scratch = Scratch::new());

/// A picture's numbers are those of its sides; and what stands behind its end changes nothing. A chunk's checksum is
/// made right first, so that what is in it is read.
pub fn png(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = at.checked_add(8 + size).filter(|end| end + 4 <= bytes.len()) else {
            break;
        };
        let sum = crc32fast::hash(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
    picture(&bytes, "png")
}

/// As [`png`].
pub fn jpeg(bytes: &[u8]) -> bool {
    picture(bytes, "jpg")
}

fn picture(bytes: &[u8], ending: &str) -> bool {
    let Some(numbers) = decoded(bytes, ending) else { return false };
    let longer = [bytes, &[0xff, 0xd9, 0, 0x49]].concat();
    assert!(decoded(&longer, ending) == Some(numbers), "bytes behind the end are looked at");
    true
}

/// Sides and numbers.
fn decoded(bytes: &[u8], ending: &str) -> Option<(Vec<usize>, Vec<u32>)> {
    SCRATCH.with(|scratch| {
        let (train, val) =
            (format!("{ending}/train/a/0.{ending}"), format!("{ending}/val/a/0.{ending}"));
        let file = scratch.write(&train, bytes);
        scratch.link(&train, &[&val]);
        let (images, _) = read_again(image_folder::open(&scratch.path().join(ending)));
        let data = accepted(images.dataset(), &file)?;
        let [1, 3, height, width] = **data.inputs.shape() else { panic!("{:?}", data.inputs) };
        let numbers = data.inputs.to_vec::<f32>().unwrap();
        assert_eq!(numbers.len(), 3 * height * width);
        // (x / 255 - mean) / deviation, of ImageNet: between these.
        assert!(numbers.iter().all(|x| (-2.2..2.7).contains(x)));
        Some((vec![height, width], bits(&numbers)))
    })
}
