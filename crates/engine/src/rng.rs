//! Chance, all of it from the seed.

use crate::{Nanos, program::Span};

/// SplitMix64 (Steele, Lea and Flood, 2014). Ours, so that a seed means the same run for good.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0 if `n` is 0. Even but for `n` / 2^64.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// True in `n` of 1024 cases.
    pub fn chance(&mut self, n: u64) -> bool {
        n > 0 && self.below(1024) < n
    }

    pub fn span(&mut self, span: Span) -> Nanos {
        let width = span.max.saturating_sub(span.min);
        if width == Nanos::ZERO {
            return span.min;
        }
        Nanos(span.min.0 + self.below(width.0.saturating_add(1)))
    }

    /// `t`, a quarter more or less.
    pub fn jitter(&mut self, t: Nanos) -> Nanos {
        Nanos(t.0 - t.0 / 4 + self.below(t.0 / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_good() {
        let mut rng = Rng::new(1);
        assert_eq!(rng.next(), 0x910a_2dec_8902_5cc1);
    }

    #[test]
    fn spans_stay_within() {
        let mut rng = Rng::new(7);
        for _ in 0..1000 {
            let t = rng.span(Span::between(Nanos(5), Nanos(9)));
            assert!((5..=9).contains(&t.0));
            let j = rng.jitter(Nanos(1000));
            assert!((750..=1250).contains(&j.0));
        }
        assert_eq!(rng.span(Span::exactly(Nanos(3))), Nanos(3));
        assert!(rng.span(Span { min: Nanos(0), max: Nanos::NEVER }) <= Nanos::NEVER);
    }
}
