//! A stretch of a signal as a short vector: averaged down (piecewise aggregate approximation, Keogh et al. 2001) and
//! centred.

/// Readings of a window, short to long.
pub(super) const SCALES: [usize; 4] = [8, 24, 64, 192];
/// Readings of the longest window.
pub(super) const LONGEST: usize = 192;
/// Coordinates of a window; longer windows are averaged down to it.
pub(super) const COORDINATES: usize = 32;

/// Coordinates of the windows of a scale.
pub(super) const fn coordinates(scale: usize) -> usize {
    if SCALES[scale] < COORDINATES { SCALES[scale] } else { COORDINATES }
}

/// A centred window: only the first coordinates of its scale are in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) mean: f32,
    pub(super) centred: [f32; COORDINATES],
}

impl Shape {
    /// The window of a scale that ends with the last of `readings`; there are at least as many as it takes.
    pub(super) fn of(readings: &[f32], scale: usize) -> Self {
        let window = &readings[readings.len() - SCALES[scale]..];
        let used = coordinates(scale);
        let step = SCALES[scale] / used;
        let mut centred = [0f32; COORDINATES];
        for (coordinate, part) in centred.iter_mut().zip(window.chunks_exact(step)) {
            *coordinate = part.iter().sum::<f32>() / step as f32;
        }
        let mean = centred[..used].iter().sum::<f32>() / used as f32;
        centred[..used].iter_mut().for_each(|coordinate| *coordinate -= mean);
        Self { mean, centred }
    }
}
