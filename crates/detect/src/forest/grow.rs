//! How a random cut tree grows and shrinks; either way it is then distributed as one drawn for the points that it has.

use super::boxes::{Bounds, Lane};
use super::points::{Points, position};
use super::tree::{Cut, Node, Scratch, Tree, with_lanes};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;

impl Cut {
    /// Says where the right child's cut is; `leaves` are those of the node.
    fn aim(&mut self, leaves: usize) {
        self.right = if leaves - usize::from(self.left) > 1 { self.left } else { 0 };
    }
}

impl Tree {
    /// Inserts the point with index `new`, which differs from every point in the tree. The tree is then distributed
    /// as one drawn for the enlarged set. With `keep` it has the boxes of all inner nodes afterwards.
    pub fn insert(
        &mut self,
        new: u8,
        points: &Points,
        keep: bool,
        rng: &mut Xoshiro256PlusPlus,
        scratch: &mut Scratch,
    ) {
        with_lanes!(points.lanes(), self.insert_in::<_>(new, points, keep, rng, scratch));
    }

    fn insert_in<const L: usize>(
        &mut self,
        new: u8,
        points: &Points,
        keep: bool,
        rng: &mut Xoshiro256PlusPlus,
        scratch: &mut Scratch,
    ) {
        if self.leaves.is_empty() {
            self.leaves.push(new);
            return;
        }
        let lanes = points.at::<L>(new);
        let point = lanes.as_flattened();
        let mut computed = Vec::new().into_iter();
        if keep {
            self.keep_boxes_in::<L>(points);
        } else {
            self.path(point, &mut scratch.path);
            computed = self.boxes::<L>(points, &scratch.path).into_iter();
        }
        let mut node = self.root();
        while let Some(mut bounds) = if keep { Some(self.bounds(node, points)) } else { computed.next() } {
            let drawn = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            // No cut separates what is inside.
            let held = bounds.holds(lanes);
            let separating = if held { None } else { separating_cut(&bounds, lanes, drawn) };
            if keep && !held {
                bounds.include(lanes);
            }
            if let Some((dim, value)) = separating {
                let (leaf, left) =
                    if point[dim] <= value { (node.leaf, 1) } else { (node.leaf + node.leaves, node.leaves) };
                let place = if keep { self.boxes.add(&bounds) } else { 0 };
                self.leaves.insert(leaf, new);
                self.cuts.insert(node.cut, Cut { value, dim: dim as u8, left: left as u8, place, right: 0 });
                self.cuts[node.cut].aim(node.leaves + 1);
                return;
            }
            let cut = &mut self.cuts[node.cut];
            let right = point[usize::from(cut.dim)] > cut.value;
            let child = node.children(*cut)[usize::from(right)];
            cut.left += u8::from(!right);
            cut.aim(node.leaves + 1);
            node = child;
            if keep && !held {
                self.boxes.set(cut.place, &bounds);
            }
        }
    }

    /// Keeps the boxes of all inner nodes from now on.
    pub fn keep_boxes(&mut self, points: &Points) {
        with_lanes!(points.lanes(), self.keep_boxes_in::<_>(points));
    }

    fn keep_boxes_in<const L: usize>(&mut self, points: &Points) {
        if self.is_boxed() {
            return;
        }
        let mut open = vec![self.root()];
        while let Some(node) = open.pop() {
            if node.leaves > 1 {
                self.cuts[node.cut].place = self.boxes.add::<L>(&self.bounds(node, points));
                self.cuts[node.cut].aim(node.leaves);
                open.extend(node.children(self.cuts[node.cut]));
            }
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
        let Some(position) = position(&self.leaves, &old) else { return };
        let path = &mut scratch.path;
        path.clear();
        let mut node = self.root();
        while node.leaves > 1 {
            path.push(node);
            let cut = &mut self.cuts[node.cut];
            let right = position >= node.leaf + usize::from(cut.left);
            let child = node.children(*cut)[usize::from(right)];
            if child.leaves > 1 {
                cut.left -= u8::from(!right);
                cut.aim(node.leaves - 1);
            }
            node = child;
        }
        self.leaves.remove(position);
        let Some(parent) = path.pop() else { return };
        self.boxes.free(self.cuts.remove(parent.cut).place);
        if self.boxes.len() > 0 {
            self.shrink::<L>(Node { leaves: parent.leaves - 1, ..parent }, points.at(old), points, path);
        }
    }

    /// Makes kept boxes right again after a point was removed below the nodes of `path`, the last of which is the parent
    /// of `node`. What is in `path` still counts that point.
    fn shrink<const L: usize>(&mut self, mut node: Node, point: &[Lane; L], points: &Points, path: &[Node]) {
        let mut bounds = None;
        for &above in path.iter().rev() {
            let above = Node { leaves: above.leaves - 1, ..above };
            let cut = self.cuts[above.cut];
            if self.boxes.get(cut.place).is_some_and(|kept: Bounds<L>| kept.is_free_of(point)) {
                return;
            }
            let mut wide = bounds.unwrap_or_else(|| self.bounds::<L>(node, points));
            let [left, right] = above.children(cut);
            wide.include_bounds(&self.bounds(if node.leaf == above.leaf { right } else { left }, points));
            self.boxes.set(cut.place, &wide);
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

/// A random cut of the box that holds `bounds` and `point`, if it separates the two: dimension by side length, place
/// uniform. `drawn` is uniform in 0..1.
fn separating_cut<const L: usize>(bounds: &Bounds<L>, point: &[Lane; L], drawn: f64) -> Option<(usize, f32)> {
    let mut wide = *bounds;
    wide.include(point);
    let (low, high) = (wide.low.as_flattened(), wide.high.as_flattened());
    let mut sides = [[0f64; 4]; L];
    for ((side, &low), &high) in sides.as_flattened_mut().iter_mut().zip(low).zip(high) {
        *side = f64::from(high) - f64::from(low);
    }
    let sides = sides.as_flattened();
    let mut place = drawn * sides.iter().sum::<f64>();
    // The last side with a length, if rounding leaves a place beyond all.
    let mut chosen = None;
    for (dim, &side) in sides.iter().enumerate() {
        if side > 0.0 {
            chosen = Some((dim, place));
        }
        if place < side {
            break;
        }
        place -= side;
    }
    let (dim, place) = chosen?;
    let value = (f64::from(low[dim]) + place.min(sides[dim])) as f32;
    // Rounding must not put the cut on the upper side, where it would separate nothing.
    let value = if value < high[dim] { value.max(low[dim]) } else { low[dim] };
    let separates = if point.as_flattened()[dim] <= value {
        value < bounds.low.as_flattened()[dim]
    } else {
        value >= bounds.high.as_flattened()[dim]
    };
    separates.then_some((dim, value))
}

#[cfg(test)]
mod tests {
    use super::super::boxes::Boxes;
    use super::*;
    use rand_xoshiro::rand_core::SeedableRng;

    /// Whether the box of every inner node is kept, and what it would be if it were computed; and where cuts aim.
    fn keeps_all(tree: &Tree, points: &Points) -> bool {
        let mut open = vec![tree.root()];
        let bare = Tree { cuts: vec![Cut::default(); tree.cuts.len()], ..tree.clone() };
        while let Some(node) = open.pop() {
            if node.leaves < 2 {
                continue;
            }
            let cut = tree.cuts[node.cut];
            let children = node.children(cut);
            let aim = if children[1].leaves > 1 { children[1].cut - node.cut } else { 0 };
            if tree.boxes.get::<2>(cut.place) != Some(bare.bounds(node, points)) || usize::from(cut.right) != aim {
                return false;
            }
            open.extend(children);
        }
        tree.boxes.len() == tree.cuts.len()
    }

    /// As the ensemble does it.
    fn sampled(tree: &mut Tree, points: &mut Points, point: &[Lane], rng: &mut Xoshiro256PlusPlus) {
        let scratch = &mut Scratch::default();
        match tree.nearest(point).filter(|&leaf| points.is_at(leaf, point)) {
            Some(known) => points.add_copy(known),
            None => tree.insert(points.add(point), points, true, rng, scratch),
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
            assert!(keeps_all(&tree, &points), "after step {step}");
        }
        let mut restored = Tree { boxes: Boxes::default(), ..tree.clone() };
        restored.cuts.iter_mut().for_each(|cut| (cut.place, cut.right) = (0, 0));
        assert!(!restored.is_boxed());
        restored.keep_boxes(&points);
        assert!(keeps_all(&restored, &points) && restored == tree);
    }

    #[test]
    fn boxes_make_no_difference() {
        let mut rngs = [(); 2].map(|()| Xoshiro256PlusPlus::seed_from_u64(4));
        let (mut trees, mut points) = ([Tree::default(), Tree::default()], Points::new(1));
        for step in 0..600 {
            if points.total() >= 64 {
                let old = points.drop_random(&mut rngs[0]);
                rngs[1] = rngs[0].clone();
                for (tree, old) in trees.iter_mut().zip([old; 2]) {
                    old.into_iter().for_each(|old| tree.remove(old, &points, &mut Scratch::default()));
                }
            }
            let new = points.add(&[[step % 7, step % 11, step, step * step % 97].map(|x| x as f32)]);
            for (at, (tree, rng)) in trees.iter_mut().zip(&mut rngs).enumerate() {
                tree.insert(new, &points, at == 0, rng, &mut Scratch::default());
            }
            assert!(trees[0] == trees[1] && rngs[0] == rngs[1], "after step {step}");
        }
        assert!(trees[0].is_boxed() && !trees[1].is_boxed());
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
