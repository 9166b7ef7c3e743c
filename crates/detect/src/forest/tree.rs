//! One random cut tree (Guha, Mishra, Roy and Schrijvers 2016) over points that live elsewhere.
//!
//! Kept without pointers: the cuts in preorder, the leaves in order. A subtree of `m` leaves owns `m` neighbouring
//! leaves and `m − 1` neighbouring cuts, so that its bounding box is one pass over its leaves and needs no storage.

use super::points::Points;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use serde::{Deserialize, Serialize};

/// Most dimensions of a point: eight lanes of four.
pub const DIMS_MAX: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Cut {
    /// Points with a coordinate up to this one are on the left.
    value: f32,
    dim: u8,
    /// Leaves on the left.
    left: u8,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Tree {
    cuts: Vec<Cut>,
    /// Indices of points, each once: copies are the points' business.
    leaves: Vec<u8>,
}

/// An inner node: where its leaves and cuts begin, and how many leaves there are.
#[derive(Clone, Copy)]
struct Node {
    leaf: usize,
    cut: usize,
    leaves: usize,
}

impl Node {
    fn children(self, cut: Cut) -> [Self; 2] {
        let left = usize::from(cut.left);
        [
            Self { leaf: self.leaf, cut: self.cut + 1, leaves: left },
            Self { leaf: self.leaf + left, cut: self.cut + left, leaves: self.leaves - left },
        ]
    }
}

/// A point's coordinates, four to a lane, so that boxes are worked on four coordinates at a time.
pub type Lane = [f32; 4];

/// A bounding box of points of `L` lanes; the number is fixed so that a box lives in registers.
#[derive(Clone, Copy)]
struct Bounds<const L: usize> {
    low: [Lane; L],
    high: [Lane; L],
}

impl<const L: usize> Bounds<L> {
    fn of(point: &[Lane; L]) -> Self {
        Self { low: *point, high: *point }
    }

    #[inline(always)]
    fn include(&mut self, point: &[Lane; L]) {
        for ((low, high), x) in self.low.iter_mut().zip(&mut self.high).zip(point) {
            for ((low, high), &x) in low.iter_mut().zip(high).zip(x) {
                *low = if x < *low { x } else { *low };
                *high = if x > *high { x } else { *high };
            }
        }
    }
}

/// Calls a method with the number of lanes as a constant.
macro_rules! with_lanes {
    ($lanes:expr, $self:ident.$method:ident::<_ $(, $more:ident)*>($($argument:expr),*)) => {
        match $lanes {
            0 | 1 => $self.$method::<1 $(, $more)*>($($argument),*),
            2 => $self.$method::<2 $(, $more)*>($($argument),*),
            3 => $self.$method::<3 $(, $more)*>($($argument),*),
            4 => $self.$method::<4 $(, $more)*>($($argument),*),
            5 => $self.$method::<5 $(, $more)*>($($argument),*),
            6 => $self.$method::<6 $(, $more)*>($($argument),*),
            7 => $self.$method::<7 $(, $more)*>($($argument),*),
            _ => $self.$method::<8 $(, $more)*>($($argument),*),
        }
    };
}

/// What a tree says about a point.
pub struct Finding {
    /// Expected 1 / (depth + 1) of the point, were it inserted.
    pub score: f32,
    /// The point's nearest leaf by the tree's cuts.
    pub neighbour: u8,
}

impl Tree {
    fn root(&self) -> Node {
        Node { leaf: 0, cut: 0, leaves: self.leaves.len() }
    }

    /// The nodes from the root to the leaf that `point` falls to; all but the last are inner ones.
    fn path(&self, point: &[f32], path: &mut Vec<Node>) {
        path.clear();
        let mut node = self.root();
        path.push(node);
        while node.leaves > 1 {
            let cut = self.cuts[node.cut];
            node = node.children(cut)[usize::from(point[usize::from(cut.dim)] > cut.value)];
            path.push(node);
        }
    }

    /// Adds to `bounds` (of `child`) the other leaves of its parent.
    #[inline(always)]
    fn widen<const L: usize>(&self, bounds: &mut Bounds<L>, parent: Node, child: Node, points: &Points) {
        let mut wide = *bounds;
        for range in [parent.leaf..child.leaf, child.leaf + child.leaves..parent.leaf + parent.leaves] {
            for &leaf in &self.leaves[range] {
                wide.include(points.at(leaf));
            }
        }
        *bounds = wide;
    }

    /// The expected score over all trees that could have been drawn for this point set and the point (the dynamic
    /// score), split by dimension: each cut that would isolate the point counts for its dimension.
    /// `None` for an empty tree. The parts are left out unless `SHARES`.
    pub fn score<const SHARES: bool>(&self, point: &[Lane], points: &Points, scratch: &mut Scratch) -> Option<Finding> {
        with_lanes!(points.lanes(), self.score_in::<_, SHARES>(point, points, scratch))
    }

    fn score_in<const L: usize, const SHARES: bool>(
        &self,
        point: &[Lane],
        points: &Points,
        scratch: &mut Scratch,
    ) -> Option<Finding> {
        let point: &[Lane; L] = point.first_chunk()?;
        if self.leaves.is_empty() {
            return None;
        }
        self.path(point.as_flattened(), &mut scratch.path);
        let mut depth = scratch.path.len() - 1;
        let neighbour = self.leaves[scratch.path[depth].leaf];
        let mut bounds = Bounds::<L>::of(points.at(neighbour));
        let mut found = Isolation::<L, SHARES> { score: 0.0, own: [[0.0; 4]; L] };
        let mut outside = true;
        if points.at::<L>(neighbour) == point {
            // Known already: as deep as its copies would reach, and the less odd the larger their part.
            let copies = f32::from(points.copies(neighbour));
            let seen = 1.0 - copies / (2.0 * points.total() as f32);
            found.score = seen / (depth as f32 + (1.0 + copies).log2());
            found.own = [[found.score / (4 * L) as f32; 4]; L];
        } else {
            outside = found.isolate(&bounds, point, depth);
        }
        // Every box above one that holds the point holds the point.
        while depth > 0 && outside {
            let (parent, child) = (scratch.path[depth - 1], scratch.path[depth]);
            self.widen(&mut bounds, parent, child, points);
            depth -= 1;
            outside = found.isolate(&bounds, point, depth);
        }
        if SHARES {
            for (sum, own) in scratch.shares.iter_mut().zip(found.own.as_flattened()) {
                *sum += own;
            }
        }
        Some(Finding { score: found.score, neighbour })
    }

    /// Inserts the point with index `new`, which differs from every point in the tree. The tree is then distributed
    /// as one drawn for the enlarged set.
    pub fn insert(&mut self, new: u8, points: &Points, rng: &mut Xoshiro256PlusPlus, scratch: &mut Scratch) {
        with_lanes!(points.lanes(), self.insert_in::<_>(new, points, rng, scratch));
    }

    fn insert_in<const L: usize>(
        &mut self,
        new: u8,
        points: &Points,
        rng: &mut Xoshiro256PlusPlus,
        scratch: &mut Scratch,
    ) {
        if self.leaves.is_empty() {
            self.leaves.push(new);
            return;
        }
        let point = points.at::<L>(new).as_flattened();
        self.path(point, &mut scratch.path);
        let boxes = self.boxes::<L>(points, &scratch.path);
        for (at, bounds) in boxes.iter().enumerate() {
            let node = scratch.path[at];
            let (low, high) = (bounds.low.as_flattened(), bounds.high.as_flattened());
            let Some((dim, value)) = random_cut(low, high, point, rng) else { continue };
            let goes_left = point[dim] <= value;
            let separates = if goes_left { value < low[dim] } else { value >= high[dim] };
            if !separates {
                continue;
            }
            let (leaf, left) = if goes_left { (node.leaf, 1) } else { (node.leaf + node.leaves, node.leaves) };
            for above in 0..at {
                if scratch.path[above + 1].leaf == scratch.path[above].leaf {
                    self.cuts[scratch.path[above].cut].left += 1;
                }
            }
            self.leaves.insert(leaf, new);
            self.cuts.insert(node.cut, Cut { value, dim: dim as u8, left: left as u8 });
            return;
        }
    }

    /// The boxes of all nodes on the path.
    fn boxes<const L: usize>(&self, points: &Points, path: &[Node]) -> Vec<Bounds<L>> {
        let depth = path.len() - 1;
        let mut bounds = Bounds::<L>::of(points.at(self.leaves[path[depth].leaf]));
        let mut boxes = vec![bounds; depth + 1];
        for at in (0..depth).rev() {
            self.widen(&mut bounds, path[at], path[at + 1], points);
            boxes[at] = bounds;
        }
        boxes
    }

    /// Removes the point with index `old`; its sibling takes the place of their parent.
    pub fn remove(&mut self, old: u8) {
        let Some(position) = self.leaves.iter().position(|&leaf| leaf == old) else { return };
        let mut node = self.root();
        while node.leaves > 1 {
            let cut = self.cuts[node.cut];
            let right = position >= node.leaf + usize::from(cut.left);
            let child = node.children(cut)[usize::from(right)];
            if child.leaves == 1 {
                self.cuts.remove(node.cut);
                break;
            }
            if !right {
                self.cuts[node.cut].left -= 1;
            }
            node = child;
        }
        self.leaves.remove(position);
    }

    /// Whether the arrays are those of a tree over exactly the points in use.
    pub fn is_sound(&self, points: &Points) -> bool {
        if self.leaves.len() != points.distinct() || self.cuts.len() + 1 != self.leaves.len().max(1) {
            return false;
        }
        let mut seen = [false; 256];
        for &leaf in &self.leaves {
            if points.copies(leaf) == 0 || std::mem::replace(&mut seen[usize::from(leaf)], true) {
                return false;
            }
        }
        let mut open = vec![self.root()];
        while let Some(node) = open.pop() {
            if node.leaves <= 1 {
                continue;
            }
            let cut = self.cuts[node.cut];
            let left = usize::from(cut.left);
            if left == 0 || left >= node.leaves || usize::from(cut.dim) >= 4 * points.lanes() || !cut.value.is_finite()
            {
                return false;
            }
            open.extend(node.children(cut));
        }
        true
    }

    pub fn memory_bytes(points_max: usize) -> usize {
        size_of::<Self>() + points_max * (size_of::<Cut>() + 1)
    }
}

/// Room that one call needs and the next may reuse.
pub struct Scratch {
    path: Vec<Node>,
    /// Sum over trees of the score's parts by dimension.
    pub shares: [f32; DIMS_MAX],
}

impl Default for Scratch {
    fn default() -> Self {
        Self { path: Vec::with_capacity(32), shares: [0.0; DIMS_MAX] }
    }
}

/// A score in the making, from the leaf upwards, with its parts by dimension.
struct Isolation<const L: usize, const SHARES: bool> {
    score: f32,
    own: [Lane; L],
}

impl<const L: usize, const SHARES: bool> Isolation<L, SHARES> {
    /// At a node of this depth a random cut isolates the point with the probability that its box would grow by;
    /// otherwise what is below decides. Says whether the point is outside.
    #[inline(always)]
    fn isolate(&mut self, bounds: &Bounds<L>, point: &[Lane; L], depth: usize) -> bool {
        let mut overhang = [[0f32; 4]; L];
        let (mut outside, mut range) = ([0f32; 4], [0f32; 4]);
        for l in 0..L {
            for j in 0..4 {
                let (low, high, x) = (bounds.low[l][j], bounds.high[l][j], point[l][j]);
                let over = if low - x > x - high { low - x } else { x - high };
                overhang[l][j] = if over > 0.0 { over } else { 0.0 };
                outside[j] += overhang[l][j];
                range[j] += high - low;
            }
        }
        let outside: f32 = outside.iter().sum();
        if outside <= 0.0 {
            return false;
        }
        let total = outside + range.iter().sum::<f32>();
        let (inside, unseen) = (1.0 - outside / total, 1.0 / (depth as f32 + 1.0));
        self.score = self.score * inside + outside / total * unseen;
        if !SHARES {
            return true;
        }
        for (own, over) in self.own.as_flattened_mut().iter_mut().zip(overhang.as_flattened()) {
            *own = *own * inside + over / total * unseen;
        }
        true
    }
}

/// A cut of the box that holds `low` to `high` and `point`: dimension by side length, place uniform.
/// `None` if that box is a point.
fn random_cut(low: &[f32], high: &[f32], point: &[f32], rng: &mut Xoshiro256PlusPlus) -> Option<(usize, f32)> {
    let side = |j: usize| {
        let (low, high) = (low[j].min(point[j]), high[j].max(point[j]));
        (low, high, f64::from(high) - f64::from(low))
    };
    let total: f64 = (0..point.len()).map(|j| side(j).2).sum();
    let mut place = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
    let mut chosen = None;
    for j in 0..point.len() {
        let (low, high, length) = side(j);
        if length <= 0.0 {
            continue;
        }
        let value = (f64::from(low) + place.min(length)) as f32;
        // Rounding must not put the cut on the upper side, where it would separate nothing.
        chosen = Some((j, if value < high { value.max(low) } else { low }));
        if place < length {
            break;
        }
        place -= length;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::rand_core::SeedableRng;

    fn grown(coordinates: &[Lane], rng: &mut Xoshiro256PlusPlus) -> (Tree, Points) {
        let (mut tree, mut points) = (Tree::default(), Points::new(1));
        for point in coordinates {
            if let Ok(new) = points.add(&[*point]) {
                tree.insert(new, &points, rng, &mut Scratch::default());
            }
        }
        (tree, points)
    }

    /// Theorem 2 of Guha et al.: whatever was inserted and removed on the way, the root's cut falls on a dimension
    /// with the probability of that side's length.
    #[test]
    fn insertion_and_removal_keep_the_distribution() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        // The last point reaches far along the first side and is removed again: sides 1, 2, 3 and 0 remain.
        let coordinates = [
            [0.0, 2.0, 3.0, 5.0],
            [1.0, 0.0, 1.0, 5.0],
            [0.5, 1.0, 0.0, 5.0],
            [0.2, 0.3, 2.0, 5.0],
            [9.0, 1.0, 1.0, 5.0],
        ];
        let tries = 20_000;
        let mut counts = [0u32; 4];
        for _ in 0..tries {
            let (mut tree, _) = grown(&coordinates, &mut rng);
            tree.remove(4);
            counts[usize::from(tree.cuts[0].dim)] += 1;
        }
        for (dim, side) in [1.0, 2.0, 3.0, 0.0].into_iter().enumerate() {
            let (share, expected) = (f64::from(counts[dim]) / f64::from(tries), side / 6.0);
            assert!((share - expected).abs() < 0.015, "dimension {dim}: {share} instead of {expected}");
        }
    }

    #[test]
    fn stays_a_tree_under_random_insertions_and_removals() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let (mut tree, mut points) = (Tree::default(), Points::new(2));
        for step in 0..5_000 {
            if points.total() >= 192 || step % 5 == 4 {
                if let Some(old) = points.drop_random(&mut rng) {
                    tree.remove(old);
                }
            } else {
                // A coarse grid, so that many points are equal in some or all coordinates.
                let point = [0; 2].map(|_| [0; 4].map(|_| (rng.next_u64() % 2) as f32));
                if let Ok(new) = points.add(&point) {
                    tree.insert(new, &points, &mut rng, &mut Scratch::default());
                }
            }
            assert!(tree.is_sound(&points) && points.is_sound(192, 1.0), "after step {step}");
        }
    }

    #[test]
    fn an_outlier_scores_higher_and_its_dimension_is_blamed() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let cloud: Vec<Lane> = (0..100).map(|_| [0; 4].map(|_| (rng.next_u64() % 1_000) as f32 / 1_000.0)).collect();
        let (mut inside, mut outside, mut scratch) = (0.0, 0.0, Scratch::default());
        for _ in 0..32 {
            let (tree, points) = grown(&cloud, &mut rng);
            inside += tree.score::<true>(&[[0.5, 0.5, 0.5, 0.5]], &points, &mut Scratch::default()).unwrap().score;
            outside += tree.score::<true>(&[[0.5, 0.5, 4.0, 0.5]], &points, &mut scratch).unwrap().score;
        }
        assert!(outside > 2.0 * inside, "{outside} against {inside}");
        let total: f32 = scratch.shares.iter().sum();
        assert!((total - outside).abs() < 1e-2 && scratch.shares[2] > 0.8 * total, "{:?}", &scratch.shares[..4]);
    }
}
