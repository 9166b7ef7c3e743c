//! The search for the nearest of many windows: first the products of several kept windows with the one in question, as
//! integers, then all their distances, in loops that the compiler makes into vector instructions. Every window is
//! compared, and every processor comes to the same: integers add up to the same in any order, and nothing else is added.

/// Windows that are compared side by side. On baseline x86-64 the shortest take twice the time with 16, and 64 gain nothing.
const SIDE: usize = 32;
/// A kept coordinate is stored with this added: bytes without a sign are widened by one instruction, not by two.
const BIAS: i32 = 128;

/// A kept coordinate as it is stored.
pub(super) fn biased(coordinate: i8) -> u8 {
    (i32::from(coordinate) + BIAS) as u8
}

/// What [`biased`] made a stored coordinate of.
pub(super) fn unbiased(stored: u8) -> i8 {
    (i32::from(stored) - BIAS) as i8
}

/// Kept windows, a list entry each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept<'a, const N: usize> {
    /// [`biased`] coordinates, in steps.
    pub(super) windows: &'a [[u8; N]],
    pub(super) steps: &'a [f32],
    /// Sums of squared coordinates.
    pub(super) squares: &'a [f32],
    /// What z-normalises.
    pub(super) factors: &'a [f32],
}

/// The window in question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<const N: usize> {
    coordinates: [i16; N],
    step: f32,
    squares: f32,
    factor: f32,
    /// Sum of squares when z-normalised.
    normalised: f32,
    /// What the bias of the kept coordinates adds to every product.
    surplus: i32,
}

/// How far the nearest kept window is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nearest {
    /// Root mean square over the coordinates, in the signal's scale.
    pub(super) raw: f32,
    /// The same of both windows z-normalised.
    pub(super) normalised: f32,
    /// Which moment's window is nearest by its raw distance, the first of several.
    pub(super) moment: usize,
}

impl<const N: usize> Asked<N> {
    /// Of a window with these coordinates in steps, its sum of squares, and what z-normalises it.
    pub(super) fn new(coordinates: [i16; N], step: f32, squares: f32, factor: f32) -> Self {
        let surplus = BIAS * coordinates.iter().map(|&coordinate| i32::from(coordinate)).sum::<i32>();
        Self { coordinates, step, squares, factor, normalised: squares * factor * factor, surplus }
    }

    pub(super) fn nearest_of(&self, kept: &Kept<'_, N>) -> Nearest {
        let (windows, windows_left) = kept.windows.as_chunks::<SIDE>();
        let (steps, steps_left) = kept.steps.as_chunks::<SIDE>();
        let (squares, squares_left) = kept.squares.as_chunks::<SIDE>();
        let (factors, factors_left) = kept.factors.as_chunks::<SIDE>();
        let mut found = Found::default();
        found.compare(0, self, windows, steps, squares, factors);
        if !windows_left.is_empty() {
            // Windows that are not there are infinitely far away.
            let (last, steps) = (filled(windows_left, [0; N]), filled(steps_left, 0.0));
            let (squares, factors) = (filled(squares_left, f32::INFINITY), filled(factors_left, 0.0));
            found.compare(SIDE * windows.len(), self, &[last], &[steps], &[squares], &[factors]);
        }
        let root = |sum: f32| if sum.is_finite() { (sum.max(0.0) / N as f32).sqrt() } else { 0.0 };
        let lane = found.distances.iter().position(|&distance| distance == found.raw).unwrap_or(0);
        Nearest { raw: root(found.raw), normalised: root(least(&found.alike)), moment: found.from + lane }
    }

    #[inline(always)]
    fn product(&self, window: &[u8; N]) -> i32 {
        let of = |kept: &[u8], asked: &[i16]| -> i32 {
            kept.iter().zip(asked).map(|(&a, &b)| i32::from(i16::from(a)) * i32::from(b)).sum()
        };
        // Sums over 16 or 8 become multiply-and-add instructions as they are, sums over 24 with detours.
        let ((kept, kept_left), (asked, asked_left)) = (window.as_chunks::<16>(), self.coordinates.as_chunks::<16>());
        kept.iter().zip(asked).map(|(kept, asked)| of(kept, asked)).sum::<i32>() + of(kept_left, asked_left)
            - self.surplus
    }
}

/// What a search has found so far.
struct Found {
    /// Squared distances of the windows that have the nearest among them, and the number of the first of these.
    distances: [f32; SIDE],
    from: usize,
    /// The least of these distances.
    raw: f32,
    /// The least squared distances of z-normalised windows, lane by lane.
    alike: [f32; SIDE],
}

impl Default for Found {
    fn default() -> Self {
        Self { distances: [f32::INFINITY; SIDE], from: 0, raw: f32::INFINITY, alike: [f32::INFINITY; SIDE] }
    }
}

impl Found {
    /// Compares with windows that are numbered from `from`. Never inlined: where the compiler sees how the coordinates in
    /// question come about it keeps each by itself, and not in vectors.
    #[inline(never)]
    fn compare<const N: usize>(
        &mut self,
        from: usize,
        asked: &Asked<N>,
        windows: &[[[u8; N]; SIDE]],
        steps: &[[f32; SIDE]],
        squares: &[[f32; SIDE]],
        factors: &[[f32; SIDE]],
    ) {
        let sides = windows.iter().zip(steps).zip(squares).zip(factors);
        for (at, (((windows, steps), squares), factors)) in sides.enumerate() {
            let mut products = [0i32; SIDE];
            for (product, window) in products.iter_mut().zip(windows) {
                *product = asked.product(window);
            }
            let mut distances = [0f32; SIDE];
            for i in 0..SIDE {
                let product = products[i] as f32 * (asked.step * steps[i]);
                distances[i] = asked.squares + squares[i] - 2.0 * product;
                let normalised = squares[i] * factors[i] * factors[i];
                let alike = asked.normalised + normalised - 2.0 * product * (asked.factor * factors[i]);
                self.alike[i] = if alike < self.alike[i] { alike } else { self.alike[i] };
            }
            let raw = least(&distances);
            if raw < self.raw {
                (self.distances, self.from, self.raw) = (distances, from + SIDE * at, raw);
            }
        }
    }
}

fn filled<T: Copy>(left: &[T], with: T) -> [T; SIDE] {
    std::array::from_fn(|i| left.get(i).copied().unwrap_or(with))
}

/// The least of all, by halves.
#[inline(always)]
fn least(of: &[f32; SIDE]) -> f32 {
    let mut least = *of;
    let mut half = SIDE;
    while half > 1 {
        half /= 2;
        for i in 0..half {
            least[i] = if least[i + half] < least[i] { least[i + half] } else { least[i] };
        }
    }
    least[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::{
        Xoshiro256PlusPlus,
        rand_core::{RngCore, SeedableRng},
    };

    /// The definition, window by window.
    fn one_by_one<const N: usize>(asked: &Asked<N>, kept: &Kept<'_, N>) -> Nearest {
        let (mut raw, mut alike, mut moment) = (f32::INFINITY, f32::INFINITY, 0);
        for (at, window) in kept.windows.iter().enumerate() {
            let (step, squares, factor) = (kept.steps[at], kept.squares[at], kept.factors[at]);
            let pairs = window.iter().zip(&asked.coordinates);
            let product: i32 = pairs.map(|(&a, &b)| i32::from(unbiased(a)) * i32::from(b)).sum();
            let product = product as f32 * (asked.step * step);
            let distance = asked.squares + squares - 2.0 * product;
            if distance < raw {
                (raw, moment) = (distance, at);
            }
            let normalised = squares * factor * factor;
            alike = alike.min(asked.normalised + normalised - 2.0 * product * (asked.factor * factor));
        }
        let root = |sum: f32| if sum.is_finite() { (sum.max(0.0) / N as f32).sqrt() } else { 0.0 };
        Nearest { raw: root(raw), normalised: root(alike), moment }
    }

    fn same_as_one_by_one<const N: usize>(rng: &mut Xoshiro256PlusPlus) {
        // Few different windows, so that several are equally near; and the extremes of what a coordinate can be.
        let extremes = [i8::MIN, i8::MAX];
        let different: [[u8; N]; 50] = std::array::from_fn(|i| {
            std::array::from_fn(|_| match i {
                0 => biased(extremes[(rng.next_u64() % 2) as usize]),
                _ => (rng.next_u64() >> 56) as u8,
            })
        });
        for count in [0, 1, SIDE - 1, SIDE, SIDE + 1, 3 * SIDE + 7, 500] {
            let which: Vec<usize> = (0..count).map(|_| (rng.next_u64() % 50) as usize).collect();
            let of = |f: fn(usize) -> f32| which.iter().map(|&i| f(i)).collect::<Vec<f32>>();
            let windows: Vec<[u8; N]> = which.iter().map(|&i| different[i]).collect();
            let (steps, factors) = (of(|i| 0.01 + i as f32 * 1e-4), of(|i| 1.0 / (1.0 + i as f32)));
            let sums = windows.iter().map(|w| w.iter().map(|&q| i32::from(unbiased(q)).pow(2)).sum::<i32>());
            let squares: Vec<f32> = sums.zip(&steps).map(|(sum, step)| sum as f32 * step * step).collect();
            let kept = Kept { windows: &windows, steps: &steps, squares: &squares, factors: &factors };
            for i in 0..20 {
                let most = 2_047;
                let within = |x: u64| (x % (2 * most + 1)) as i16 - most as i16;
                let coordinates = std::array::from_fn(|_| if i == 0 { most as i16 } else { within(rng.next_u64()) });
                let asked = Asked::new(coordinates, 0.000_7, 30.0, 0.9);
                let (here, there) = (asked.nearest_of(&kept), one_by_one(&asked, &kept));
                let bits = |nearest: &Nearest| (nearest.raw.to_bits(), nearest.normalised.to_bits(), nearest.moment);
                assert_eq!(bits(&here), bits(&there), "{N} coordinates, {count} windows");
            }
        }
    }

    #[test]
    fn side_by_side_is_the_same_as_one_by_one() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        same_as_one_by_one::<8>(&mut rng);
        same_as_one_by_one::<24>(&mut rng);
        same_as_one_by_one::<32>(&mut rng);
    }

    #[test]
    fn every_coordinate_comes_back() {
        assert!((i8::MIN..=i8::MAX).all(|coordinate| unbiased(biased(coordinate)) == coordinate));
    }
}
