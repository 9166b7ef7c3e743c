//! The score of a point in several trees side by side.
//!
//! A descent waits for memory and a comparison at every node, and a tree is left at a node that no processor foresees. Where
//! several trees are walked in step, their waits overlap and there is one such surprise for all of them; on the way up
//! each tree is one number of a vector. Every score is that of [`Tree::score`], to the bit.

use super::boxes::{Lane, Place};
use super::points::Points;
use super::tree::{DIMS_MAX, LEAVES_MAX, Tree, with_lanes};
use std::hint::select_unpredictable;

/// Trees side by side: as many as a lane has numbers.
pub const ABREAST: usize = 4;

/// A tree, and the points that it is over.
pub type Planted<'a> = (&'a Tree, &'a Points);

/// Scores without parts. The trees are boxed, and `point` has the lanes of their points.
pub fn scores(trees: [Planted<'_>; ABREAST], point: &[Lane], ways: &mut Ways) -> [f32; ABREAST] {
    with_lanes!(point.len(), ways.scores::<_>(trees, point))
}

/// Room for the places of the boxes on the way down each tree, from the root on.
pub struct Ways([[Place; LEAVES_MAX]; ABREAST]);

impl Default for Ways {
    fn default() -> Self {
        Self([[0; LEAVES_MAX]; ABREAST])
    }
}

impl Ways {
    /// Goes down to the last inner nodes, without a branch but for the end. Gives their depths.
    fn descend(&mut self, trees: [&Tree; ABREAST], point: &[f32; DIMS_MAX]) -> [usize; ABREAST] {
        let cuts = trees.map(|tree| &tree.cuts[..]);
        let (mut at, mut depths) = ([0; ABREAST], [0; ABREAST]);
        loop {
            let mut moved = 0;
            let next: [_; ABREAST] = std::array::from_fn(|i| {
                let cut = cuts[i][at[i]];
                self.0[i][depths[i] % LEAVES_MAX] = cut.place;
                let right = point[usize::from(cut.dim) % DIMS_MAX] > cut.value;
                let on = select_unpredictable(right, cut.right, u8::from(cut.left > 1));
                moved |= on;
                depths[i] += usize::from(on > 0);
                at[i] + usize::from(on)
            });
            at = next;
            if moved == 0 {
                return depths;
            }
        }
    }

    fn scores<const L: usize>(&mut self, trees: [Planted<'_>; ABREAST], point: &[Lane]) -> [f32; ABREAST] {
        let Some(point) = point.first_chunk::<L>() else { return [0.0; ABREAST] };
        let mut coordinates = [0.0; DIMS_MAX];
        coordinates[..4 * L].copy_from_slice(point.as_flattened());
        let depths = self.descend(trees.map(|(tree, _)| tree), &coordinates);
        let boxes = trees.map(|(tree, _)| tree.boxes.all::<L>());
        let mut levels = depths.map(|depth| depth as f32);
        // Beside a leaf that it is not, the point is isolated for certain.
        let mut found = levels.map(|level| 1.0 / (level + 2.0));
        for up in 0.. {
            // What is read does not depend on what was computed, so that it is read ahead.
            let sides: [_; ABREAST] = std::array::from_fn(|i| {
                let place = self.0[i][depths[i].saturating_sub(up) % LEAVES_MAX];
                &boxes[i][usize::from(place)]
            });
            let [outside, range] = overhang(sides, point);
            for i in 0..ABREAST {
                let is_outside = (outside[i] > 0.0) & (levels[i] >= 0.0);
                let share = if is_outside { outside[i] / (outside[i] + range[i]) } else { 0.0 };
                let unseen = 1.0 / (if levels[i] > 0.0 { levels[i] } else { 0.0 } + 1.0);
                found[i] = found[i] * (1.0 - share) + share * unseen;
                levels[i] -= 1.0;
            }
            if up == 0 {
                for i in 0..ABREAST {
                    // Only a point in the lowest box may be the leaf itself.
                    let (tree, points) = trees[i];
                    let leaf = if outside[i] > 0.0 { None } else { tree.nearest(point) };
                    if let Some(leaf) = leaf.filter(|&leaf| points.at::<L>(leaf) == point) {
                        found[i] = tree.known(leaf, depths[i] + 1, points);
                    }
                }
            }
            // Every box above one that holds the point holds the point.
            let open = (0..ABREAST).fold(false, |open, i| open | (outside[i] > 0.0) & (levels[i] >= 0.0));
            if !open {
                break;
            }
        }
        found
    }
}

/// How far the point is outside of each box, and the length of each box's sides, summed as [`Tree::score`] does.
#[inline(always)]
fn overhang<const L: usize>(sides: [&[[Lane; L]; 2]; ABREAST], point: &[Lane; L]) -> [[f32; ABREAST]; 2] {
    let (mut outside, mut range) = ([[0f32; 4]; ABREAST], [[0f32; 4]; ABREAST]);
    for i in 0..ABREAST {
        for l in 0..L {
            for j in 0..4 {
                let (low, high, x) = (sides[i][0][l][j], sides[i][1][l][j], point[l][j]);
                let over = if low - x > x - high { low - x } else { x - high };
                outside[i][j] += if over > 0.0 { over } else { 0.0 };
                range[i][j] += high - low;
            }
        }
    }
    [outside, range].map(|lanes| lanes.map(|[a, b, c, d]| a + b + c + d))
}

#[cfg(test)]
mod tests {
    use super::super::tree::Scratch;
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{RngCore, SeedableRng};

    #[test]
    fn scores_are_those_of_one_tree_at_a_time() {
        let (mut rng, mut scratch) = (Xoshiro256PlusPlus::seed_from_u64(1), Scratch::default());
        for lanes in 1..=8 {
            let mut random = |steps: u64| -> Vec<Lane> {
                (0..lanes).map(|_| [0; 4].map(|_| (rng.next_u64() % steps) as f32 / 8.0)).collect()
            };
            // Of the fewest leaves, of many, of the most; some of several copies.
            let planted = [2, 3, 60, 256].map(|leaves| {
                let (mut tree, mut points) = (Tree::default(), Points::new(lanes));
                let mut grow = Xoshiro256PlusPlus::seed_from_u64(leaves as u64);
                while points.distinct() < leaves {
                    let point = random(40);
                    match tree.nearest(&point).filter(|&leaf| points.is_at(leaf, &point)) {
                        Some(known) => points.add_copy(known),
                        None => tree.insert(points.add(&point), &points, true, &mut grow, &mut scratch),
                    }
                }
                points.add_copy(tree.leaves[0]);
                (tree, points)
            });
            let trees = planted.each_ref().map(|(tree, points)| (tree, points));
            let mut ways = Ways::default();
            let known = planted.iter().map(|(tree, points)| points.lanes_of(tree.leaves[0]).to_vec());
            let unknown: Vec<_> = (0..200).map(|at| random(if at % 2 == 0 { 40 } else { 100 })).collect();
            for point in known.chain(unknown) {
                let found = scores(trees, &point, &mut ways);
                let one_by_one = trees.map(|(tree, points)| {
                    tree.score::<false>(&point, points, &mut scratch).expect("a tree with leaves").score
                });
                assert_eq!(found.map(f32::to_bits), one_by_one.map(f32::to_bits), "{lanes} lanes, {point:?}");
            }
        }
    }
}
