//! How a camera was held: EXIF's tag 0x112.

/// Where each pixel of the upright picture comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Orientation {
    /// Rows are columns of the file, …
    swapped: bool,
    /// … and the file's rows go from below, …
    up: bool,
    /// … its columns from the right.
    left: bool,
}

impl Orientation {
    /// Of EXIF data; upright where they say nothing.
    pub(super) fn of(exif: Option<&[u8]>) -> Self {
        let (swapped, up, left) = match exif.and_then(tag).unwrap_or(1) {
            2 => (false, false, true),
            3 => (false, true, true),
            4 => (false, true, false),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => (false, false, false),
        };
        Self { swapped, up, left }
    }

    /// Height and width of the upright picture.
    pub(super) const fn upright(self, [height, width]: [usize; 2]) -> [usize; 2] {
        if self.swapped { [width, height] } else { [height, width] }
    }

    /// The pixel of a file of so many rows and columns that comes to row y, column x.
    pub(super) const fn source(self, [height, width]: [usize; 2], [y, x]: [usize; 2]) -> usize {
        let [y, x] = if self.swapped { [x, y] } else { [y, x] };
        let y = if self.up { height - 1 - y } else { y };
        let x = if self.left { width - 1 - x } else { x };
        y * width + x
    }
}

/// The orientation's number, 1 to 8, in the first directory of a TIFF file.
fn tag(exif: &[u8]) -> Option<u16> {
    let little = match exif.first_chunk::<4>()? {
        b"II\x2a\0" => true,
        b"MM\0\x2a" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let two = *exif.get(at..)?.first_chunk::<2>()?;
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let long = |at: usize| {
        let four = *exif.get(at..)?.first_chunk::<4>()?;
        Some(if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) })
    };
    let directory = usize::try_from(long(4)?).ok()?;
    let entries = usize::from(short(directory)?);
    // Twelve bytes each: tag, type (3: two bytes), how many, value.
    let entry = |i: usize| directory.checked_add(2 + 12 * i);
    let mut places = (0..entries).map_while(entry);
    let is_one = |&at: &usize| {
        short(at) == Some(0x112) && short(at + 2) == Some(3) && long(at + 4) == Some(1)
    };
    short(places.find(is_one)?.checked_add(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(little: bool, number: u16) -> Vec<u8> {
        let short = |x: u16| if little { x.to_le_bytes() } else { x.to_be_bytes() };
        let long = |x: u32| if little { x.to_le_bytes() } else { x.to_be_bytes() };
        let mut all = if little { b"II\x2a\0".to_vec() } else { b"MM\0\x2a".to_vec() };
        all.extend(long(8));
        all.extend(short(2));
        for (tag, value) in [(0x100, 7), (0x112, number)] {
            all.extend([short(tag), short(3)].concat());
            all.extend(long(1));
            all.extend([short(value), short(0)].concat());
        }
        all
    }

    #[test]
    fn each_of_the_eight_turns_a_picture_upright() {
        // Of the rows ab and cd.
        for (number, expected) in
            ["abcd", "badc", "dcba", "cdab", "acbd", "cadb", "dbca", "bdac"].iter().enumerate()
        {
            for little in [false, true] {
                let exif = exif(little, number as u16 + 1);
                let orientation = Orientation::of(Some(&exif));
                let at = |i: usize| b"abcd"[orientation.source([2, 2], [i / 2, i % 2])];
                let upright: Vec<u8> = (0..4).map(at).collect();
                assert_eq!(upright, expected.as_bytes(), "{}", number + 1);
                for end in 0..exif.len() {
                    let _ = Orientation::of(Some(&exif[..end]));
                }
            }
        }
        let turned = Orientation::of(Some(&exif(true, 6)));
        assert_eq!(turned.upright([2, 3]), [3, 2]);
        for number in [0, 9, 300] {
            assert_eq!(Orientation::of(Some(&exif(true, number))), Orientation::default());
        }
        assert_eq!(Orientation::of(None), Orientation::default());
    }
}
