//! What tasks draw, all of it from the seed.

use scxlab_engine::program::Span;

/// SplitMix64 (Steele, Lea and Flood, 2014), one for each task. It is also the task's number: see
/// [`Chance::child`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chance(pub u64);

impl Chance {
    /// Of the process that is number `n` of those that exist at the start.
    pub fn of_start(seed: u64, n: u64) -> Self {
        Self(mix(seed ^ mix(n.wrapping_add(1))))
    }

    /// Of the `n`th task that the task of this number creates. It depends on nothing but whose
    /// child it is, so that every run draws alike however its tasks overtake each other.
    pub fn child(number: u64, n: u64) -> Self {
        Self(mix(number.rotate_left(17) ^ mix(n.wrapping_add(1))))
    }

    /// The number that this generator begins with.
    pub fn number(self) -> u64 {
        self.0
    }

    /// A length of time in ns.
    pub fn draw(&mut self, span: Span) -> u64 {
        let width = span.max.0.saturating_sub(span.min.0);
        if width == 0 {
            return span.min.0;
        }
        let n = width.saturating_add(1);
        span.min.0 + ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scxlab_engine::Nanos;

    #[test]
    fn draws_are_the_seeds_and_stay_within() {
        let span = Span::between(Nanos(100), Nanos(200));
        let draws =
            |mut chance: Chance| (0..50).map(move |_| chance.draw(span)).collect::<Vec<_>>();
        let first = draws(Chance::of_start(7, 0));
        assert_eq!(first, draws(Chance::of_start(7, 0)));
        assert_ne!(first, draws(Chance::of_start(8, 0)));
        assert_ne!(first, draws(Chance::of_start(7, 1)));
        assert_ne!(first, draws(Chance::child(Chance::of_start(7, 0).number(), 0)));
        assert!(first.iter().all(|ns| (100..=200).contains(ns)));
        assert!(first.iter().any(|ns| *ns != first[0]));
    }

    #[test]
    fn siblings_differ() {
        let mut numbers: Vec<u64> = (0..1000).map(|n| Chance::child(42, n).number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1000);
    }
}
