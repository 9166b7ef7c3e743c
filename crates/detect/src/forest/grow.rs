//! How a random cut tree grows and shrinks; either way it is then distributed as one drawn for the points that it has.

use super::boxes::{Bounds, Lane, Place};
use super::points::Points;
use super::tree::{Cut, Node, Scratch, Tree, with_lanes};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;

/// Leaves from which on a node's box is kept: below, it is computed as fast as it is fetched.
const KEPT_LEAVES_MIN: usize = 8;

impl Tree {
    /// Inserts the point with index `new`, which differs from every point in the tree. The tree is then distributed
    /// as one drawn for the enlarged set. It keeps at most `boxes_max` boxes.
    pub fn insert(
        &mut self,
        new: u8,
        points: &Points,
        boxes_max: Place,
        rng: &mut Xoshiro256PlusPlus,
        scratch: &mut Scratch,
    ) {
        with_lanes!(points.lanes(), self.insert_in::<_>(new, points, boxes_max, rng, scratch));
    }

    fn insert_in<const L: usize>(
        &mut self,
        new: u8,
        points: &Points,
        boxes_max: Place,
        rng: &mut Xoshiro256PlusPlus,
        scratch: &mut Scratch,
    ) {
        if self.leaves.is_empty() {
            self.leaves.push(new);
            return;
        }
        let lanes = points.at::<L>(new);
        let point = lanes.as_flattened();
        self.path(point, &mut scratch.path);
        let mut boxes = self.boxes::<L>(points, &scratch.path);
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
            self.cuts.insert(node.cut, Cut { value, dim: dim as u8, left: left as u8, place: 0 });
            for (node, bounds) in scratch.path[..=at].iter().zip(&mut boxes) {
                let place = &mut self.cuts[node.cut].place;
                if *place > 0 || node.leaves + 1 >= KEPT_LEAVES_MIN {
                    bounds.include(lanes);
                    *place = self.boxes.keep(*place, bounds, boxes_max);
                }
            }
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

    /// Removes the point with index `old`, whose coordinates are still there; its sibling takes the place of their parent.
    pub fn remove(&mut self, old: u8, points: &Points, scratch: &mut Scratch) {
        with_lanes!(points.lanes(), self.remove_in::<_>(old, points, scratch));
    }

    fn remove_in<const L: usize>(&mut self, old: u8, points: &Points, scratch: &mut Scratch) {
        let Some(position) = self.leaves.iter().position(|&leaf| leaf == old) else { return };
        let path = &mut scratch.path;
        path.clear();
        let mut node = self.root();
        while node.leaves > 1 {
            path.push(node);
            let cut = &mut self.cuts[node.cut];
            let right = position >= node.leaf + usize::from(cut.left);
            let child = node.children(*cut)[usize::from(right)];
            if !right && child.leaves > 1 {
                cut.left -= 1;
            }
            node = child;
        }
        self.leaves.remove(position);
        let Some(parent) = path.pop() else { return };
        self.boxes.free(self.cuts.remove(parent.cut).place);
        if self.boxes.is_empty() {
            return;
        }
        self.shrink::<L>(Node { leaves: parent.leaves - 1, ..parent }, points.at(old), points, path);
    }

    /// Makes kept boxes right again after a point was removed below the nodes of `path`, the last of which is the parent
    /// of `node`. What is in `path` still counts that point.
    fn shrink<const L: usize>(&mut self, mut node: Node, point: &[Lane; L], points: &Points, path: &[Node]) {
        let mut bounds = None;
        for &above in path.iter().rev() {
            let above = Node { leaves: above.leaves - 1, ..above };
            let place = self.cuts[above.cut].place;
            if self.boxes.get(place).is_some_and(|kept: Bounds<L>| kept.is_free_of(point)) {
                return;
            }
            let mut wide = bounds.unwrap_or_else(|| self.bounds::<L>(node, points));
            let [left, right] = above.children(self.cuts[above.cut]);
            wide.include_bounds(&self.bounds(if node.leaf == above.leaf { right } else { left }, points));
            if place > 0 && above.leaves < KEPT_LEAVES_MIN {
                self.boxes.free(place);
                self.cuts[above.cut].place = 0;
            } else if place > 0 {
                self.boxes.keep(place, &wide, place);
            }
            (node, bounds) = (above, Some(wide));
        }
    }

    /// The box of a node, kept or computed.
    fn bounds<const L: usize>(&self, node: Node, points: &Points) -> Bounds<L> {
        let kept = if node.leaves > 1 { self.boxes.get(self.cuts[node.cut].place) } else { None };
        kept.unwrap_or_else(|| {
            let leaves = &self.leaves[node.leaf..node.leaf + node.leaves];
            let mut bounds = Bounds::of(points.at(leaves[0]));
            bounds.include_leaves(&leaves[1..], points);
            bounds
        })
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

    /// Fewer than are wanted.
    const BOXES_MAX: Place = 9;

    /// Whether every kept box is what it would be if it were computed; and how many there are.
    fn kept_boxes(tree: &Tree, points: &Points) -> usize {
        let (mut open, mut kept) = (vec![tree.root()], 0);
        while let Some(node) = open.pop() {
            if node.leaves < 2 {
                continue;
            }
            let cut = tree.cuts[node.cut];
            if let Some(bounds) = tree.boxes.get::<2>(cut.place) {
                let bare = Tree { cuts: vec![Cut { place: 0, ..cut }; tree.cuts.len()], ..tree.clone() };
                let computed = bare.bounds::<2>(node, points);
                assert_eq!((bounds.low, bounds.high), (computed.low, computed.high), "of {} leaves", node.leaves);
                kept += 1;
            }
            open.extend(node.children(cut));
        }
        kept
    }

    /// As the ensemble does it.
    fn sampled(tree: &mut Tree, points: &mut Points, point: &[Lane], rng: &mut Xoshiro256PlusPlus) {
        let scratch = &mut Scratch::default();
        match tree.nearest(point, scratch).filter(|&leaf| points.is_at(leaf, point)) {
            Some(known) => points.add_copy(known),
            None => tree.insert(points.add(point), points, BOXES_MAX, rng, scratch),
        }
    }

    fn grown(coordinates: &[Lane], rng: &mut Xoshiro256PlusPlus) -> (Tree, Points) {
        let (mut tree, mut points) = (Tree::default(), Points::new(1));
        for point in coordinates {
            sampled(&mut tree, &mut points, &[*point], rng);
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
            let (mut tree, points) = grown(&coordinates, &mut rng);
            tree.remove(4, &points, &mut Scratch::default());
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
                    tree.remove(old, &points, &mut Scratch::default());
                }
            } else {
                // A coarse grid, so that many points are equal in some or all coordinates.
                let point = [0; 2].map(|_| [0; 4].map(|_| (rng.next_u64() % 2) as f32));
                sampled(&mut tree, &mut points, &point, &mut rng);
            }
            assert!(tree.is_sound(&points) && points.is_sound(192, 1.0), "after step {step}");
            let kept = kept_boxes(&tree, &points);
            assert!(
                kept <= usize::from(BOXES_MAX) && (points.distinct() < 100 || kept > 5),
                "{kept} after step {step}"
            );
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
