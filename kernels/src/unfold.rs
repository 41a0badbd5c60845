//! temporary
/// w
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// k
    pub kernel: (usize, usize),
    /// s
    pub stride: (usize, usize),
    /// p
    pub padding: (usize, usize),
    /// d
    pub dilation: (usize, usize),
}
/// u
pub fn unfold<T: crate::Float>(
    _image: &[T],
    _c: usize,
    _h: usize,
    _w: usize,
    _window: &Window,
    _out: &mut [T],
) {
}
