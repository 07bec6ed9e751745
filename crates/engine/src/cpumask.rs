//! CPU numbers and sets of them.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most CPUs a simulated machine can have. The kernel's counterpart is `CONFIG_NR_CPUS`.
pub const NR_CPUS: usize = 1024;

const WORDS: usize = NR_CPUS / 64;

/// A CPU's number, `0..nr_cpu_ids`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CpuId(pub u32);

impl CpuId {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A CPU's topological number, `0..nr_cids`: siblings of a core are neighbours, then cores of a
/// cache. See `kernel/sched/ext/cid.h` in Linux 7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cid(pub u32);

impl Cid {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of CPUs; `struct cpumask` for [`NR_CPUS`] CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cpumask {
    bits: [u64; WORDS],
}

impl Default for Cpumask {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Cpumask {
    /// No CPU.
    pub const EMPTY: Self = Self { bits: [0; WORDS] };

    /// CPUs `0..n`; `n` is cut to [`NR_CPUS`].
    pub fn first_n(n: usize) -> Self {
        let mut mask = Self::EMPTY;
        for (i, word) in mask.bits.iter_mut().enumerate() {
            let left = n.saturating_sub(i * 64);
            *word = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        }
        mask
    }

    /// Just `cpu`. Empty if `cpu` is past [`NR_CPUS`].
    pub fn of(cpu: CpuId) -> Self {
        let mut mask = Self::EMPTY;
        mask.set(cpu);
        mask
    }

    /// Adds `cpu`. A CPU past [`NR_CPUS`] is ignored.
    #[inline]
    pub fn set(&mut self, cpu: CpuId) {
        if let Some(word) = self.bits.get_mut(cpu.index() / 64) {
            *word |= 1 << (cpu.0 % 64);
        }
    }

    /// Removes `cpu`.
    #[inline]
    pub fn clear(&mut self, cpu: CpuId) {
        if let Some(word) = self.bits.get_mut(cpu.index() / 64) {
            *word &= !(1 << (cpu.0 % 64));
        }
    }

    /// Whether `cpu` is in the set.
    #[inline]
    pub fn test(&self, cpu: CpuId) -> bool {
        self.bits.get(cpu.index() / 64).is_some_and(|word| word & (1 << (cpu.0 % 64)) != 0)
    }

    /// Removes `cpu`; whether it was in the set.
    #[inline]
    pub fn test_and_clear(&mut self, cpu: CpuId) -> bool {
        let was = self.test(cpu);
        self.clear(cpu);
        was
    }

    /// The set as the kernel keeps it: 64 CPUs a word, the lowest first.
    pub fn words(&self) -> &[u64] {
        &self.bits
    }

    /// The set of these words, as far as there are CPUs for them; see [`Cpumask::words`].
    pub fn from_words(words: impl IntoIterator<Item = u64>) -> Self {
        let mut mask = Self::EMPTY;
        for (word, bits) in words.into_iter().zip(&mut mask.bits) {
            *bits = word;
        }
        mask
    }

    /// How many CPUs.
    pub fn weight(&self) -> u32 {
        self.bits.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|&word| word == 0)
    }

    /// The lowest CPU.
    pub fn first(&self) -> Option<CpuId> {
        self.next_from(CpuId(0))
    }

    /// The lowest CPU that is not below `from`.
    pub fn next_from(&self, from: CpuId) -> Option<CpuId> {
        first_bit(from, |i| self.bits[i])
    }

    /// The lowest CPU in both sets that is not below `from`. Does not build the intersection.
    pub fn next_and_from(&self, other: &Self, from: CpuId) -> Option<CpuId> {
        first_bit(from, |i| self.bits[i] & other.bits[i])
    }

    /// The CPUs of both.
    pub fn and(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// The CPUs of either.
    pub fn or(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// The CPUs of `self` that are not in `other`.
    pub fn and_not(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Whether there is a CPU in both.
    pub fn intersects(&self, other: &Self) -> bool {
        self.bits.iter().zip(&other.bits).any(|(a, b)| a & b != 0)
    }

    /// Whether every CPU of `self` is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.bits.iter().zip(&other.bits).all(|(a, b)| a & !b == 0)
    }

    /// The CPUs, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        let mut from = Some(CpuId(0));
        std::iter::from_fn(move || {
            let cpu = self.next_from(from?);
            from = cpu.map(|cpu| CpuId(cpu.0 + 1));
            cpu
        })
    }

    /// As the kernel prints a mask with `%*pb` on a machine of `nr_cpu_ids` CPUs: hexadecimal
    /// groups of 32 bits, the highest first, the first one only as wide as it needs to be.
    pub fn to_bitmap_string(&self, nr_cpu_ids: usize) -> String {
        let nr = nr_cpu_ids.clamp(1, NR_CPUS);
        let mut out = String::new();
        for group in (0..nr.div_ceil(32)).rev() {
            let word = (self.bits[group / 2] >> (32 * (group % 2))) as u32;
            let bits = if (group + 1) * 32 > nr { nr - group * 32 } else { 32 };
            let word = if bits == 32 { word } else { word & ((1 << bits) - 1) };
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(&format!("{word:0width$x}", width = bits.div_ceil(4)));
        }
        out
    }

    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self { bits: std::array::from_fn(|i| f(self.bits[i], other.bits[i])) }
    }
}

#[inline]
fn first_bit(from: CpuId, word_at: impl Fn(usize) -> u64) -> Option<CpuId> {
    let first = from.index() / 64;
    if first >= WORDS {
        return None;
    }
    let mut word = word_at(first) & (u64::MAX << (from.0 % 64));
    let mut i = first;
    while word == 0 {
        i += 1;
        if i == WORDS {
            return None;
        }
        word = word_at(i);
    }
    Some(CpuId(i as u32 * 64 + word.trailing_zeros()))
}

impl FromIterator<CpuId> for Cpumask {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        let mut mask = Self::EMPTY;
        cpus.into_iter().for_each(|cpu| mask.set(cpu));
        mask
    }
}

/// As the kernel prints a mask with `%*pbl`: `0-3,8`.
impl fmt::Display for Cpumask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut next = self.first();
        while let Some(start) = next {
            let mut end = start;
            while self.test(CpuId(end.0 + 1)) {
                end.0 += 1;
            }
            if start == end {
                write!(f, "{separator}{start}")?;
            } else {
                write!(f, "{separator}{start}-{end}")?;
            }
            separator = ",";
            next = self.next_from(CpuId(end.0 + 1));
        }
        Ok(())
    }
}

impl fmt::Debug for Cpumask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cpumask({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_ranges_as_the_kernel_does() {
        let mask: Cpumask = [0, 1, 2, 5, 64, 65, 1023].into_iter().map(CpuId).collect();
        assert_eq!(mask.to_string(), "0-2,5,64-65,1023");
        assert_eq!(mask.weight(), 7);
        assert_eq!(Cpumask::EMPTY.to_string(), "");
    }

    #[test]
    fn prints_bitmaps_as_the_kernel_does() {
        assert_eq!(Cpumask::first_n(4).to_bitmap_string(4), "f");
        assert_eq!(Cpumask::of(CpuId(1)).to_bitmap_string(2), "2");
        assert_eq!(Cpumask::first_n(40).to_bitmap_string(40), "ff,ffffffff");
        assert_eq!(Cpumask::of(CpuId(0)).to_bitmap_string(33), "0,00000001");
    }

    #[test]
    fn walks_across_words() {
        let mask: Cpumask = [3, 64, 200].into_iter().map(CpuId).collect();
        let all: Vec<_> = mask.iter().map(|cpu| cpu.0).collect();
        assert_eq!(all, [3, 64, 200]);
        assert_eq!(mask.next_from(CpuId(201)), None);
        assert_eq!(mask.next_from(CpuId(NR_CPUS as u32)), None);
        assert_eq!(mask.next_and_from(&Cpumask::of(CpuId(200)), CpuId(4)), Some(CpuId(200)));
        assert_eq!(Cpumask::first_n(NR_CPUS).weight(), NR_CPUS as u32);
    }
}
