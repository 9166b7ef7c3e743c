//! Bounding boxes, and those that a tree keeps of all its inner nodes.
//!
//! A box can always be computed from the leaves, so what is kept here is no state: it is not stored, and whether it is
//! there changes no score. Insertions and removals mend it as they pass, which saves scores most of their work.

use super::points::Points;

/// A point's coordinates, four to a lane, so that boxes are worked on four coordinates at a time.
pub type Lane = [f32; 4];

/// A bounding box of points of `L` lanes; the number is fixed so that a box lives in registers.
#[derive(Clone, Copy, PartialEq)]
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

    /// Whether the point lies in the box, its sides included.
    pub fn holds(&self, point: &[Lane; L]) -> bool {
        self.sides(point).fold(true, |held, (low, high, x)| held & (low <= x) & (x <= high))
    }

    /// Whether the box would be the same without the point: no side ends at it.
    pub fn is_free_of(&self, point: &[Lane; L]) -> bool {
        self.sides(point).fold(true, |free, (low, high, x)| free & (low < x) & (x < high))
    }

    fn sides(&self, point: &[Lane; L]) -> impl Iterator<Item = (f32, f32, f32)> {
        let sides = self.low.as_flattened().iter().zip(self.high.as_flattened());
        sides.zip(point.as_flattened()).map(|((&low, &high), &x)| (low, high, x))
    }
}

/// Where a node's box is kept; 0: nowhere.
pub type Place = u8;

/// Most boxes: a tree of 256 leaves has 255 inner nodes.
const PLACES_MAX: usize = 255;
/// A line of a processor's cache, in lanes.
const LINE: usize = 64 / size_of::<Lane>();

/// Boxes by place: the low sides of one, then the high ones, as many lanes of each as a point has.
#[derive(Debug, Clone, Default)]
pub struct Boxes {
    lanes: Vec<Lane>,
    /// Lanes before the first box, so that boxes do not lie across lines.
    start: usize,
    free: Vec<Place>,
    places: Place,
}

impl Boxes {
    /// How many are kept.
    pub fn len(&self) -> usize {
        usize::from(self.places) - self.free.len()
    }

    /// The low and the high sides by place. That at 0 is none.
    #[inline(always)]
    pub fn all<const L: usize>(&self) -> &[[[Lane; L]; 2]] {
        self.lanes[self.start..].as_chunks().0.as_chunks().0
    }

    #[inline(always)]
    pub fn get<const L: usize>(&self, place: Place) -> Option<Bounds<L>> {
        let &[low, high] = self.all().get(usize::from(place)).filter(|_| place > 0)?;
        Some(Bounds { low, high })
    }

    pub fn set<const L: usize>(&mut self, place: Place, bounds: &Bounds<L>) {
        let all = self.lanes[self.start..].as_chunks_mut().0.as_chunks_mut().0;
        all[usize::from(place)] = [bounds.low, bounds.high];
    }

    pub fn add<const L: usize>(&mut self, bounds: &Bounds<L>) -> Place {
        if self.lanes.is_empty() {
            self.lanes.reserve_exact(LINE + (1 + PLACES_MAX) * 2 * L);
            let beyond = self.lanes.as_ptr().addr() / size_of::<Lane>() % LINE;
            self.start = (LINE - beyond) % LINE;
            self.lanes.resize(self.start + 2 * L, [0.0; 4]);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places += 1;
            self.lanes.resize(self.lanes.len() + 2 * L, [0.0; 4]);
            self.places
        });
        self.set(place, bounds);
        place
    }

    pub fn free(&mut self, place: Place) {
        if place > 0 {
            self.free.push(place);
        }
    }
}
