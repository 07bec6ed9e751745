//! What a task takes with it through an exec, as one argument of the new image.

use scxlab_engine::program::Index;

/// What a task takes with it. The rest of it begins anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Carry {
    /// Where the new image starts.
    pub entry: u32,
    /// The new image's name.
    pub image: Index,
    /// The name under which the task was started.
    pub name: Index,
    /// Its number,
    pub number: u64,
    /// how many tasks it has created,
    pub children: u64,
    /// and where its draws stand.
    pub chance: u64,
    /// Its process, which stays the same.
    pub pid: i32,
    /// Whether it was not the process's leader.
    pub nonleader: bool,
    /// The process that it created last; 0 for none.
    pub last_child: i32,
    /// The mutexes that it has.
    pub held: Vec<Index>,
}

impl Carry {
    /// As text.
    pub fn write(&self) -> String {
        let fixed = [
            u64::from(self.entry),
            u64::from(self.image),
            u64::from(self.name),
            self.number,
            self.children,
            self.chance,
            self.pid as u64,
            u64::from(self.nonleader),
            self.last_child as u64,
        ];
        let held = self.held.iter().map(|m| u64::from(*m));
        let words: Vec<String> = fixed.into_iter().chain(held).map(|n| n.to_string()).collect();
        words.join(",")
    }

    /// Back from text. Nothing if it is none of [`Carry::write`]'s.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split(',').map(|word| word.parse::<u64>().ok());
        let mut next = || words.next().flatten();
        Some(Self {
            entry: next()?.try_into().ok()?,
            image: next()?.try_into().ok()?,
            name: next()?.try_into().ok()?,
            number: next()?,
            children: next()?,
            chance: next()?,
            pid: next()?.try_into().ok()?,
            nonleader: next()? != 0,
            last_child: next()?.try_into().ok()?,
            held: words.map(|word| word?.try_into().ok()).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_comes_back() {
        let carry = Carry {
            entry: 1,
            image: 2,
            name: u32::MAX,
            number: u64::MAX,
            children: 3,
            chance: 4,
            pid: 5,
            nonleader: true,
            last_child: 6,
            held: vec![7, 8],
        };
        assert_eq!(Carry::read(&carry.write()), Some(carry));
        assert_eq!(Carry::read("1,2,3"), None);
        assert_eq!(Carry::read(""), None);
    }
}
