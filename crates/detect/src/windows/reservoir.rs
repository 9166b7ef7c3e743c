//! A reservoir of windows that were accepted as normal, and the distance of a window to the nearest of them, raw and
//! z-normalised at once: both follow from one scalar product ([`super::search`]).

use super::search::{Asked, Kept, Nearest, biased, unbiased};
use super::shape::{COORDINATES, SCALES, Shape, coordinates};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Moments whose windows are kept. Fewer find less: 250 cost a hundredth of VUS-PR on TSB-AD-U.
pub(super) const MOMENTS_MAX: usize = 1_024;
/// Kept windows have 7 bits and a sign per coordinate, windows in question 11.
const KEPT_MAX: f32 = 127.0;
const ASKED_MAX: f32 = 2_047.0;

/// The kept windows of one scale.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Shelf {
    /// Coordinates of all windows, one after the other, in steps; in a stored state without bias.
    #[serde(serialize_with = "put_unbiased", deserialize_with = "take_biased")]
    quantised: Vec<u8>,
    /// Size of a step.
    steps: Vec<f32>,
    /// What follows from the above, per window: sum of squares, and the factor that z-normalises.
    #[serde(skip)]
    squares: Vec<f32>,
    #[serde(skip)]
    factors: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Reservoir {
    shelves: [Shelf; SCALES.len()],
    /// Added to a window's own deviation when it is normalised: what is flat must not be blown up into noise.
    floor: f32,
}

impl Reservoir {
    pub(super) fn len(&self) -> usize {
        self.shelves[0].steps.len()
    }

    pub(super) fn floor(&self) -> f32 {
        self.floor
    }

    pub(super) fn set_floor(&mut self, floor: f32) {
        self.floor = floor;
        self.complete();
    }

    /// Computes what is not stored.
    pub(super) fn complete(&mut self) {
        for (scale, shelf) in self.shelves.iter_mut().enumerate() {
            let used = coordinates(scale);
            let squares = |(window, step): (&[u8], &f32)| {
                let sum: i32 = window.iter().map(|&q| i32::from(unbiased(q)).pow(2)).sum();
                sum as f32 * step * step
            };
            shelf.squares = shelf.quantised.chunks_exact(used).zip(&shelf.steps).map(squares).collect();
            shelf.factors = shelf.squares.iter().map(|&squares| factor(squares, used, self.floor)).collect();
        }
    }

    /// Keeps a moment's windows, in place of another one's or as one more.
    pub(super) fn keep(&mut self, shapes: &[Shape; SCALES.len()], instead_of: Option<usize>) {
        for (scale, (shelf, shape)) in self.shelves.iter_mut().zip(shapes).enumerate() {
            let used = coordinates(scale);
            let centred = &shape.centred[..used];
            let step = largest(centred) / KEPT_MAX;
            let mut quantised = [biased(0); COORDINATES];
            quantise(centred, step, |at, q| quantised[at] = biased(q as i8));
            let sum: i32 = quantised.iter().map(|&q| i32::from(unbiased(q)).pow(2)).sum();
            let squares = sum as f32 * step * step;
            let factor = factor(squares, used, self.floor);
            match instead_of {
                Some(at) => {
                    shelf.quantised[at * used..][..used].copy_from_slice(&quantised[..used]);
                    (shelf.steps[at], shelf.squares[at], shelf.factors[at]) = (step, squares, factor);
                }
                None => {
                    shelf.quantised.extend_from_slice(&quantised[..used]);
                    shelf.steps.push(step);
                    shelf.squares.push(squares);
                    shelf.factors.push(factor);
                }
            }
        }
    }

    /// Gives up every second moment.
    pub(super) fn thin(&mut self) {
        for (scale, shelf) in self.shelves.iter_mut().enumerate() {
            let used = coordinates(scale);
            let kept = shelf.steps.len().div_ceil(2);
            for at in 1..kept {
                shelf.quantised.copy_within(2 * at * used..(2 * at + 1) * used, at * used);
                shelf.steps[at] = shelf.steps[2 * at];
            }
            shelf.quantised.truncate(kept * used);
            shelf.steps.truncate(kept);
        }
        self.complete();
    }

    pub(super) fn nearest(&self, shape: &Shape, scale: usize) -> Nearest {
        match coordinates(scale) {
            8 => self.nearest_of::<8>(shape, scale),
            24 => self.nearest_of::<24>(shape, scale),
            _ => self.nearest_of::<COORDINATES>(shape, scale),
        }
    }

    fn nearest_of<const N: usize>(&self, shape: &Shape, scale: usize) -> Nearest {
        let shelf = &self.shelves[scale];
        let step = largest(&shape.centred[..N]) / ASKED_MAX;
        let mut asked = [0i16; N];
        quantise(&shape.centred[..N], step, |at, q| asked[at] = q);
        let squares = asked.iter().map(|&q| i32::from(q) * i32::from(q)).sum::<i32>() as f32 * step * step;
        Asked::new(asked, step, squares, factor(squares, N, self.floor)).nearest_of(&Kept {
            windows: shelf.quantised.as_chunks::<N>().0,
            steps: &shelf.steps,
            squares: &shelf.squares,
            factors: &shelf.factors,
        })
    }

    /// The last coordinate of a kept window: what came at its end, beside its mean.
    pub(super) fn end_of(&self, moment: usize, scale: usize) -> f32 {
        let (shelf, used) = (&self.shelves[scale], coordinates(scale));
        let last = shelf.quantised.get((moment + 1) * used - 1).map_or(0, |&q| unbiased(q));
        f32::from(last) * shelf.steps.get(moment).copied().unwrap_or(0.0)
    }

    pub(super) fn is_sound(&self) -> bool {
        let moments = self.len();
        let finite = |step: &f32| step.is_finite() && *step >= 0.0 && *step <= super::COORDINATE_MAX;
        moments <= MOMENTS_MAX
            && (0.0..=super::COORDINATE_MAX).contains(&self.floor)
            && self.shelves.iter().enumerate().all(|(scale, shelf)| {
                shelf.steps.len() == moments
                    && shelf.quantised.len() == moments * coordinates(scale)
                    && shelf.steps.iter().all(finite)
            })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.quantised.capacity() + 3 * 4 * shelf.steps.capacity()).sum()
    }
}

fn put_unbiased<S: Serializer>(quantised: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(quantised.iter().map(|&q| unbiased(q)))
}

fn take_biased<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    Ok(Vec::<i8>::deserialize(from)?.into_iter().map(biased).collect())
}

fn largest(centred: &[f32]) -> f32 {
    centred.iter().fold(0.0, |largest, coordinate| if coordinate.abs() > largest { coordinate.abs() } else { largest })
}

fn quantise(centred: &[f32], step: f32, mut put: impl FnMut(usize, i16)) {
    let per_step = if step > 0.0 { 1.0 / step } else { 0.0 };
    for (at, coordinate) in centred.iter().enumerate() {
        // Ties and rounding errors stay within the bound: `as` saturates.
        put(at, (coordinate * per_step).round() as i16);
    }
}

/// What a window of this sum of squares is multiplied with to become z-normalised.
fn factor(squares: f32, coordinates: usize, floor: f32) -> f32 {
    let deviation = (squares / coordinates as f32 + floor * floor).sqrt();
    if deviation > f32::MIN_POSITIVE { 1.0 / deviation } else { 0.0 }
}
