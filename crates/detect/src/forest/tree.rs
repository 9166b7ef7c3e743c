//! One random cut tree (Guha, Mishra, Roy and Schrijvers 2016) over points that live elsewhere.
//!
//! Kept without pointers: the cuts in preorder, the leaves in order. A subtree of `m` leaves owns `m` neighbouring
//! leaves and `m − 1` neighbouring cuts, so that its bounding box is one pass over its leaves. A tree may keep the boxes of
//! all inner nodes, for speed; or none, to be small.

use super::boxes::{Bounds, Boxes, Lane, Place};
use super::points::Points;
use serde::{Deserialize, Serialize};

/// Most dimensions of a point: eight lanes of four.
pub const DIMS_MAX: usize = 32;
/// Most leaves of a tree.
pub const LEAVES_MAX: usize = 256;

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Cut {
    /// Points with a coordinate up to this one are on the left.
    pub(super) value: f32,
    pub(super) dim: u8,
    /// Leaves on the left.
    pub(super) left: u8,
    /// Of the box of what is cut.
    #[serde(skip)]
    pub(super) place: Place,
    /// Where boxes are kept: how many cuts further that of the right child is, 0 if that is a leaf.
    #[serde(skip)]
    pub(super) right: u8,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tree {
    pub(super) cuts: Vec<Cut>,
    /// Indices of points, each once: copies are the points' business.
    pub(super) leaves: Vec<u8>,
    #[serde(skip)]
    pub(super) boxes: Boxes,
}

/// Kept boxes make no difference.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        let cuts = |tree: &Self| tree.cuts.iter().map(|cut| (cut.value, cut.dim, cut.left)).collect::<Vec<_>>();
        self.leaves == other.leaves && cuts(self) == cuts(other)
    }
}

/// An inner node: where its leaves and cuts begin, and how many leaves there are.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) leaf: usize,
    pub(super) cut: usize,
    pub(super) leaves: usize,
}

impl Node {
    pub(super) fn children(self, cut: Cut) -> [Self; 2] {
        let left = usize::from(cut.left);
        [
            Self { leaf: self.leaf, cut: self.cut + 1, leaves: left },
            Self { leaf: self.leaf + left, cut: self.cut + left, leaves: self.leaves - left },
        ]
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

pub(super) use with_lanes;

/// What a tree says about a point.
pub struct Finding {
    /// Expected 1 / (depth + 1) of the point, were it inserted.
    pub score: f32,
    /// The point's nearest leaf by the tree's cuts.
    pub neighbour: u8,
}

impl Tree {
    pub(super) fn root(&self) -> Node {
        Node { leaf: 0, cut: 0, leaves: self.leaves.len() }
    }

    /// The nodes from the root to the leaf that `point` falls to; all but the last are inner ones.
    pub(super) fn path(&self, point: &[f32], path: &mut Vec<Node>) {
        path.clear();
        let mut node = self.root();
        path.push(node);
        while node.leaves > 1 {
            let cut = self.cuts[node.cut];
            node = node.children(cut)[usize::from(point[usize::from(cut.dim)] > cut.value)];
            path.push(node);
        }
    }

    /// The leaf that `point` falls to.
    pub fn nearest(&self, point: &[Lane]) -> Option<u8> {
        let point = point.as_flattened();
        let mut node = self.root();
        while node.leaves > 1 {
            let cut = self.cuts[node.cut];
            node = node.children(cut)[usize::from(point[usize::from(cut.dim)] > cut.value)];
        }
        self.leaves.get(node.leaf).copied()
    }

    /// Whether there are inner nodes and the box of each is kept.
    pub fn is_boxed(&self) -> bool {
        !self.cuts.is_empty() && self.boxes.len() == self.cuts.len()
    }

    /// Makes the bounds of `child` those of its parent.
    #[inline(always)]
    pub(super) fn widen<const L: usize>(&self, bounds: &mut Bounds<L>, parent: Node, child: Node, points: &Points) {
        bounds.include_leaves(&self.leaves[parent.leaf..child.leaf], points);
        bounds.include_leaves(&self.leaves[child.leaf + child.leaves..parent.leaf + parent.leaves], points);
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
            found.score = self.known(neighbour, depth, points);
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

    /// The score of a point that is a leaf already: as deep as its copies would reach, and the less odd the larger their part.
    pub(super) fn known(&self, leaf: u8, depth: usize, points: &Points) -> f32 {
        let copies = f32::from(points.copies(leaf));
        let seen = 1.0 - copies / (2.0 * points.total() as f32);
        seen / (depth as f32 + (1.0 + copies).log2())
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

    /// Of a tree that keeps no boxes.
    pub fn memory_bytes(points_max: usize) -> usize {
        size_of::<Self>() + points_max * (size_of::<Cut>() + 1)
    }
}

/// Room that one call needs and the next may reuse.
pub struct Scratch {
    pub(super) path: Vec<Node>,
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
