//! Bounding boxes, and those of a tree's larger nodes that are kept.
//!
//! A box can always be computed from the leaves, so what is kept here is no state: it is not stored, and whether it is
//! there changes no score. It is made by insertions as they pass, and saves the next reading most of its work.

use super::points::Points;

/// A point's coordinates, four to a lane, so that boxes are worked on four coordinates at a time.
pub type Lane = [f32; 4];

/// A bounding box of points of `L` lanes; the number is fixed so that a box lives in registers.
#[derive(Clone, Copy)]
pub struct Bounds<const L: usize> {
    pub low: [Lane; L],
    pub high: [Lane; L],
}

impl<const L: usize> Bounds<L> {
    pub fn of(point: &[Lane; L]) -> Self {
        Self { low: *point, high: *point }
    }

    #[inline(always)]
    pub fn include(&mut self, point: &[Lane; L]) {
        for ((low, high), x) in self.low.iter_mut().zip(&mut self.high).zip(point) {
            for ((low, high), &x) in low.iter_mut().zip(high).zip(x) {
                *low = if x < *low { x } else { *low };
                *high = if x > *high { x } else { *high };
            }
        }
    }

    pub fn include_bounds(&mut self, other: &Self) {
        self.include(&other.low);
        self.include(&other.high);
    }

    #[inline(always)]
    pub fn include_leaves(&mut self, leaves: &[u8], points: &Points) {
        let mut wide = *self;
        for &leaf in leaves {
            wide.include(points.at(leaf));
        }
        *self = wide;
    }

    /// Whether the box would be the same without the point: no side ends at it.
    pub fn is_free_of(&self, point: &[Lane; L]) -> bool {
        let sides = self.low.as_flattened().iter().zip(self.high.as_flattened());
        sides.zip(point.as_flattened()).all(|((low, high), x)| low < x && x < high)
    }
}

/// Where a node's box is kept; 0: nowhere.
pub type Place = u8;

/// Boxes by place.
#[derive(Debug, Clone, Default)]
pub struct Boxes {
    lanes: Vec<Lane>,
    free: Vec<Place>,
    places: Place,
}

impl Boxes {
    /// Whether none was ever kept.
    pub fn is_empty(&self) -> bool {
        self.places == 0
    }

    #[inline(always)]
    pub fn get<const L: usize>(&self, place: Place) -> Option<Bounds<L>> {
        let start = usize::from(place).checked_sub(1)? * 2 * L;
        let (low, high) = self.lanes[start..start + 2 * L].split_at(L);
        Some(Bounds { low: *low.first_chunk()?, high: *high.first_chunk()? })
    }

    /// Keeps a box at `place`, or at a free place if that is 0. Gives 0 if none of `places_max` is free.
    pub fn keep<const L: usize>(&mut self, place: Place, bounds: &Bounds<L>, places_max: Place) -> Place {
        let place = match place {
            0 => match self.free.pop() {
                Some(place) => place,
                None if self.places < places_max => {
                    self.places += 1;
                    self.lanes.resize(self.lanes.len() + 2 * L, [0.0; 4]);
                    self.places
                }
                None => return 0,
            },
            place => place,
        };
        let start = (usize::from(place) - 1) * 2 * L;
        let (low, high) = self.lanes[start..start + 2 * L].split_at_mut(L);
        low.copy_from_slice(&bounds.low);
        high.copy_from_slice(&bounds.high);
        place
    }

    pub fn free(&mut self, place: Place) {
        if place > 0 {
            self.free.push(place);
        }
    }

    pub fn memory_bytes(lanes: usize, places_max: Place) -> usize {
        usize::from(places_max) * (2 * lanes * size_of::<Lane>() + size_of::<Place>())
    }
}
