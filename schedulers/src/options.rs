//! Settings of a scheduler: `KEY=VALUE`.

use std::fmt;

/// Something that can be set.
#[derive(Clone, Copy, Debug)]
pub struct SchedOption {
    /// The key.
    pub key: &'static str,
    /// What the value may be.
    pub values: &'static str,
    /// The value if it is not set.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// Why a scheduler cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is no such scheduler.
    #[error("unknown scheduler `{name}`{hint}")]
    UnknownScheduler {
        /// The name.
        name: String,
        /// What there is.
        hint: Hint,
    },
    /// The scheduler has no such option.
    #[error("{scheduler} has no option `{key}`{hint}")]
    UnknownKey {
        /// The scheduler.
        scheduler: &'static str,
        /// The key.
        key: String,
        /// What there is.
        hint: Hint,
    },
    /// The value does not fit.
    #[error("{scheduler}: `{key}={value}`: the value is one of: {values}")]
    Value {
        /// The scheduler.
        scheduler: &'static str,
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What fits.
        values: &'static str,
    },
}

/// The nearest name, and all there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    nearest: Option<String>,
    all: Vec<String>,
}

impl Hint {
    fn new(name: &str, known: &[&str]) -> Self {
        let nearest = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(name, known), *known))
            .filter(|(distance, known)| *distance <= known.len().max(3) / 2)
            .min()
            .map(|(_, known)| known.to_owned());
        Self { nearest, all: known.iter().map(|&known| known.to_owned()).collect() }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        write!(f, " (there are: {})", self.all.join(", "))
    }
}

impl CreateError {
    pub(crate) fn unknown_scheduler(name: &str, known: &[&str]) -> Self {
        Self::UnknownScheduler { name: name.to_owned(), hint: Hint::new(name, known) }
    }
}

/// Settings that name known keys only.
pub(crate) struct Options<'a> {
    scheduler: &'static str,
    known: &'static [SchedOption],
    settings: &'a [(String, String)],
}

impl<'a> Options<'a> {
    pub fn new(
        scheduler: &'static str,
        known: &'static [SchedOption],
        settings: &'a [(String, String)],
    ) -> Result<Self, CreateError> {
        for (key, _) in settings {
            if !known.iter().any(|option| option.key == key) {
                let names: Vec<_> = known.iter().map(|option| option.key).collect();
                let hint = Hint::new(key, &names);
                return Err(CreateError::UnknownKey { scheduler, key: key.clone(), hint });
            }
        }
        Ok(Self { scheduler, known, settings })
    }

    /// The value of a key as `parse` reads it.
    pub fn get<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, CreateError> {
        let option = self.known.iter().find(|option| option.key == key);
        let default = option.map_or("", |option| option.default);
        let set = self.settings.iter().rev().find(|(k, _)| k == key);
        let value = set.map_or(default, |(_, value)| value.as_str());
        parse(value).ok_or_else(|| CreateError::Value {
            scheduler: self.scheduler,
            key,
            value: value.to_owned(),
            values: option.map_or("", |option| option.values),
        })
    }

    /// `on` or `off`.
    pub fn switch(&self, key: &'static str) -> Result<bool, CreateError> {
        self.get(key, |value| match value {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        })
    }

    /// A whole number within limits.
    pub fn number(&self, key: &'static str, least: u64, most: u64) -> Result<u64, CreateError> {
        self.get(key, |value| value.parse().ok().filter(|n| (least..=most).contains(n)))
    }
}
