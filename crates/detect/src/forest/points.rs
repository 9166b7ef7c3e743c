//! The points that a group of trees shares: a time-decaying random sample of what was seen, equal ones counted.

use super::boxes::Lane;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use serde::{Deserialize, Serialize};

/// Points with reference counts in one flat store, `lanes` lanes each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Points {
    lanes: u8,
    coordinates: Vec<Lane>,
    /// How many samples each point stands for; 0 marks a free place.
    copies: Vec<u16>,
    distinct: u16,
    total: u16,
}

/// Where the first such element is. Whole chunks are compared at once, which a search that may end anywhere is not.
pub fn position<T: PartialEq>(all: &[T], wanted: &T) -> Option<usize> {
    const CHUNK: usize = 32;
    let found = |chunk: &&[T]| chunk.iter().fold(false, |found, one| found | (one == wanted));
    let before = all.chunks(CHUNK).take_while(|chunk| !found(chunk)).count() * CHUNK;
    let within = all.get(before..)?.iter().position(|one| one == wanted)?;
    Some(before + within)
}

impl Points {
    pub fn new(lanes: usize) -> Self {
        Self { lanes: lanes as u8, ..Self::default() }
    }

    pub fn lanes(&self) -> usize {
        usize::from(self.lanes)
    }

    pub fn lanes_of(&self, index: u8) -> &[Lane] {
        let start = usize::from(index) * self.lanes();
        &self.coordinates[start..start + self.lanes()]
    }

    /// `L` is the number of lanes.
    #[inline(always)]
    pub fn at<const L: usize>(&self, index: u8) -> &[Lane; L] {
        let start = usize::from(index) * L;
        self.coordinates[start..start + L].first_chunk().expect("a slice of L lanes has L lanes")
    }

    pub fn coordinate(&self, index: u8, dim: usize) -> f32 {
        self.lanes_of(index).as_flattened()[dim]
    }

    pub fn copies(&self, index: u8) -> u16 {
        self.copies.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Different points held.
    pub fn distinct(&self) -> usize {
        usize::from(self.distinct)
    }

    /// Samples held, copies included.
    pub fn total(&self) -> usize {
        usize::from(self.total)
    }

    pub fn is_at(&self, index: u8, point: &[Lane]) -> bool {
        self.lanes_of(index) == point
    }

    /// Adds a sample that is equal to the point at `index`.
    pub fn add_copy(&mut self, index: u8) {
        self.total += 1;
        self.copies[usize::from(index)] += 1;
    }

    /// Adds a sample that is equal to no other; gives its index.
    pub fn add(&mut self, point: &[Lane]) -> u8 {
        self.total += 1;
        self.distinct += 1;
        let index = position(&self.copies, &0).unwrap_or(self.copies.len());
        if index == self.copies.len() {
            self.copies.push(0);
            self.coordinates.extend_from_slice(point);
        } else {
            let start = index * self.lanes();
            self.coordinates[start..start + point.len()].copy_from_slice(point);
        }
        self.copies[index] = 1;
        index as u8
    }

    /// Drops one sample, each as likely as any other; gives the point's index if that was its last copy.
    pub fn drop_random(&mut self, rng: &mut Xoshiro256PlusPlus) -> Option<u8> {
        let mut left = ((u128::from(rng.next_u64()) * self.total() as u128) >> 64) as usize;
        // Mostly no two samples are equal and no place is free: each place is one sample.
        let index = if self.distinct() == self.total() && self.total() == self.copies.len() {
            left
        } else {
            self.copies.iter().position(|&copies| {
                let here = left < usize::from(copies);
                left = left.saturating_sub(usize::from(copies));
                here
            })?
        };
        self.total -= 1;
        self.copies[index] -= 1;
        if self.copies[index] > 0 {
            return None;
        }
        self.distinct -= 1;
        Some(index as u8)
    }

    pub fn is_sound(&self, samples_max: usize, coordinate_max: f32) -> bool {
        let total: usize = self.copies.iter().map(|&copies| usize::from(copies)).sum();
        self.copies.len() <= samples_max
            && self.coordinates.len() == self.copies.len() * self.lanes()
            && self.coordinates.as_flattened().iter().all(|x| x.abs() <= coordinate_max)
            && total == self.total()
            && total <= samples_max
            && self.copies.iter().filter(|&&copies| copies > 0).count() == self.distinct()
    }

    pub fn memory_bytes(lanes: usize, samples_max: usize) -> usize {
        size_of::<Self>() + samples_max * (lanes * size_of::<Lane>() + size_of::<u16>())
    }
}
