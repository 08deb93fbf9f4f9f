//! Choices that a seed repeats.

use std::time::Duration;

/// SplitMix64. Each thing that chooses has a generator of its own, made of the seed and of what it is: what one of them
/// draws, and when, changes nothing for the others.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for what these numbers name.
    #[must_use]
    pub fn of(names: &[u64]) -> Self {
        let mut random = Self(0);
        for name in names {
            random.0 = random.next() ^ name;
        }
        random
    }

    /// 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub const fn below(&mut self, bound: u32) -> u32 {
        // The high half of a 32-bit number times the bound is below the bound.
        (((self.next() >> 32) * bound as u64) >> 32) as u32
    }

    /// True in `percent` of 100.
    pub const fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// From 0 to 1, 1 excluded.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.below(u32::MAX)) / f64::from(u32::MAX)
    }

    /// Between two durations.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.unit())
    }

    /// Exponentially distributed around `mean`, five times that at most.
    pub fn around(&mut self, mean: Duration) -> Duration {
        mean.mul_f64((-(1.0 - self.unit()).ln()).min(5.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_choices_and_another_makes_others() {
        let draw = |names: &[u64]| (0..20).scan(Random::of(names), |random, _| Some(random.next())).collect::<Vec<_>>();
        assert_eq!(draw(&[1, 2]), draw(&[1, 2]));
        assert_ne!(draw(&[1, 2]), draw(&[2, 1]));
        assert_ne!(draw(&[1, 2]), draw(&[1, 3]));
    }

    #[test]
    fn what_is_drawn_lies_within_its_bounds() {
        let mut random = Random::of(&[7]);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[random.below(5) as usize] = true;
            assert!((0.0..1.0).contains(&random.unit()));
            assert!(random.around(Duration::from_secs(1)) <= Duration::from_secs(5));
        }
        assert_eq!((seen, random.below(0)), ([true; 5], 0));
    }
}
