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

/// A bounding box.
#[derive(Clone, Copy)]
struct Bounds {
    low: [f32; DIMS_MAX],
    high: [f32; DIMS_MAX],
}

impl Bounds {
    fn of(point: &[f32]) -> Self {
        let mut bounds = Self { low: [0.0; DIMS_MAX], high: [0.0; DIMS_MAX] };
        bounds.low[..point.len()].copy_from_slice(point);
        bounds.high[..point.len()].copy_from_slice(point);
        bounds
    }

    /// `point` is a whole number of lanes long.
    #[inline]
    fn include(&mut self, point: &[f32]) {
        let (low, high) = (self.low.as_chunks_mut::<4>().0, self.high.as_chunks_mut::<4>().0);
        for ((low, high), x) in low.iter_mut().zip(high).zip(point.as_chunks::<4>().0) {
            for lane in 0..4 {
                low[lane] = if x[lane] < low[lane] { x[lane] } else { low[lane] };
                high[lane] = if x[lane] > high[lane] { x[lane] } else { high[lane] };
            }
        }
    }
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
    #[inline]
    fn widen(&self, bounds: &mut Bounds, parent: Node, child: Node, points: &Points) {
        let before = parent.leaf..child.leaf;
        let after = child.leaf + child.leaves..parent.leaf + parent.leaves;
        for &leaf in self.leaves[before].iter().chain(&self.leaves[after]) {
            bounds.include(points.at(leaf));
        }
    }

    /// The expected score over all trees that could have been drawn for this point set and the point (the dynamic
    /// score), split by dimension: each cut that would isolate the point counts for its dimension.
    /// `None` for an empty tree.
    pub fn score(&self, point: &[f32], points: &Points, scratch: &mut Scratch) -> Option<Finding> {
        if self.leaves.is_empty() {
            return None;
        }
        self.path(point, &mut scratch.path);
        let mut depth = scratch.path.len() - 1;
        let last = scratch.path[depth];
        let neighbour = self.leaves[last.leaf];
        let width = point.len();
        let mut bounds = Bounds::of(points.at(neighbour));
        let own = &mut scratch.own;
        own[..width].fill(0.0);
        let mut score = 0.0f32;
        if points.at(neighbour) == point {
            // Known already: as deep as its copies would reach, and the less odd the larger their part.
            let copies = f32::from(points.copies(neighbour));
            let seen = 1.0 - copies / (2.0 * points.total() as f32);
            score = seen / (depth as f32 + (1.0 + copies).log2());
            let each = score / width as f32;
            own[..width].fill(each);
        } else {
            isolate(&mut score, own, &bounds, point, depth);
        }
        while depth > 0 {
            let (parent, child) = (scratch.path[depth - 1], scratch.path[depth]);
            self.widen(&mut bounds, parent, child, points);
            depth -= 1;
            isolate(&mut score, own, &bounds, point, depth);
        }
        for (sum, own) in scratch.shares[..width].iter_mut().zip(&own[..width]) {
            *sum += own;
        }
        Some(Finding { score, neighbour })
    }

    /// Inserts the point with index `new`, which differs from every point in the tree. The tree is then distributed
    /// as one drawn for the enlarged set.
    pub fn insert(&mut self, new: u8, points: &Points, rng: &mut Xoshiro256PlusPlus, scratch: &mut Scratch) {
        if self.leaves.is_empty() {
            self.leaves.push(new);
            return;
        }
        let point = points.at(new);
        self.path(point, &mut scratch.path);
        self.boxes(points, scratch);
        for at in 0..scratch.path.len() {
            let node = scratch.path[at];
            let bounds = &scratch.boxes[at];
            let Some((dim, value)) = random_cut(bounds, point, rng) else { continue };
            let goes_left = point[dim] <= value;
            let separates = if goes_left { value < bounds.low[dim] } else { value >= bounds.high[dim] };
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

    /// The boxes of all nodes on the path in `scratch`.
    fn boxes(&self, points: &Points, scratch: &mut Scratch) {
        let depth = scratch.path.len() - 1;
        let mut bounds = Bounds::of(points.at(self.leaves[scratch.path[depth].leaf]));
        scratch.boxes.clear();
        scratch.boxes.resize(depth + 1, bounds);
        for at in (0..depth).rev() {
            self.widen(&mut bounds, scratch.path[at], scratch.path[at + 1], points);
            scratch.boxes[at] = bounds;
        }
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
            if left == 0 || left >= node.leaves || usize::from(cut.dim) >= points.width() || !cut.value.is_finite() {
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
    boxes: Vec<Bounds>,
    own: [f32; DIMS_MAX],
    /// Sum over trees of the score's parts by dimension.
    pub shares: [f32; DIMS_MAX],
}

impl Default for Scratch {
    fn default() -> Self {
        Self { path: Vec::with_capacity(32), boxes: Vec::new(), own: [0.0; DIMS_MAX], shares: [0.0; DIMS_MAX] }
    }
}

/// At a node of this depth a random cut isolates the point with the probability that its box would grow by;
/// otherwise what is below decides.
#[inline]
fn isolate(score: &mut f32, own: &mut [f32; DIMS_MAX], bounds: &Bounds, point: &[f32], depth: usize) {
    let width = point.len();
    let mut overhang = [0f32; DIMS_MAX];
    let (mut outside, mut range) = (0.0, 0.0);
    for j in 0..width {
        let below = bounds.low[j] - point[j];
        let above = point[j] - bounds.high[j];
        let over = if below > above { below } else { above };
        let over = if over > 0.0 { over } else { 0.0 };
        overhang[j] = over;
        outside += over;
        range += bounds.high[j] - bounds.low[j];
    }
    if outside <= 0.0 {
        return;
    }
    let total = outside + range;
    let unseen = 1.0 / (depth as f32 + 1.0);
    let inside = range / total;
    *score = *score * inside + outside / total * unseen;
    for j in 0..width {
        own[j] = own[j] * inside + overhang[j] / total * unseen;
    }
}

/// A cut of the box that holds `bounds` and `point`: dimension by side length, place uniform.
/// `None` if that box is a point.
fn random_cut(bounds: &Bounds, point: &[f32], rng: &mut Xoshiro256PlusPlus) -> Option<(usize, f32)> {
    let width = point.len();
    let side = |j: usize| {
        let (low, high) = (bounds.low[j].min(point[j]), bounds.high[j].max(point[j]));
        (low, high, f64::from(high) - f64::from(low))
    };
    let total: f64 = (0..width).map(|j| side(j).2).sum();
    let mut place = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
    let mut chosen = None;
    for j in 0..width {
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
