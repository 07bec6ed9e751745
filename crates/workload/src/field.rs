//! Typed access to the values of a file, which knows the place of each for messages.

use crate::error::{ParseError, Place, nearest, shown};
use crate::json::{Item, Member, Value};

/// rt-app keeps its numbers in an `int`.
pub(crate) const INT_MAX: i64 = i32::MAX as i64;

/// A value, and how it was come to.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    file: &'a str,
    parent: Option<&'a Field<'a>>,
    /// Empty for the root.
    pub(crate) key: &'a str,
    pub(crate) line: u32,
    pub(crate) value: &'a Value<'a>,
}

impl<'a> Field<'a> {
    pub(crate) fn root(file: &'a str, item: &'a Item<'a>) -> Self {
        Self { file, parent: None, key: "", line: item.line, value: &item.value }
    }

    fn child(&'a self, member: &'a Member<'a>) -> Self {
        Self {
            file: self.file,
            parent: Some(self),
            key: &member.key,
            line: member.line,
            value: &member.value,
        }
    }

    pub(crate) fn place(&self) -> Box<Place> {
        let mut keys = Vec::new();
        let mut next = Some(self);
        while let Some(field) = next {
            if !field.key.is_empty() {
                keys.push(shown(field.key));
            }
            next = field.parent;
        }
        keys.reverse();
        Box::new(Place { file: self.file.to_owned(), line: self.line, field: keys.join(".") })
    }

    /// The members of an object.
    pub(crate) fn members(&'a self) -> Result<impl Iterator<Item = Field<'a>>, ParseError> {
        match self.value {
            Value::Object(members) => Ok(members.iter().map(|member| self.child(member))),
            _ => Err(self.wrong_type("an object")),
        }
    }

    /// The members of an object that can only have these keys, and each only once.
    pub(crate) fn record<const N: usize>(
        &'a self,
        keys: [&str; N],
    ) -> Result<[Option<Field<'a>>; N], ParseError> {
        let mut found = [None; N];
        for member in self.members()? {
            let Some(i) = keys.iter().position(|key| *key == member.key) else {
                return Err(member.unknown_key(keys));
            };
            if let Some(Field { line, .. }) = found[i].replace(member) {
                return Err(member.repeated(line));
            }
        }
        Ok(found)
    }

    /// A whole number from `min` to `max`.
    pub(crate) fn int(&self, min: i64, max: i64) -> Result<i64, ParseError> {
        match self.value {
            Value::Int(value) => self.in_range(*value, min, max),
            _ => Err(self.wrong_type("a whole number")),
        }
    }

    fn in_range(&self, value: i64, min: i64, max: i64) -> Result<i64, ParseError> {
        if (min..=max).contains(&value) {
            Ok(value)
        } else {
            Err(ParseError::OutOfRange { at: self.place(), value, min, max })
        }
    }

    pub(crate) fn text(&self) -> Result<&'a str, ParseError> {
        match self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong_type("a text")),
        }
    }

    pub(crate) fn bool(&self) -> Result<bool, ParseError> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// A list of whole numbers from `min` to `max`.
    pub(crate) fn ints(&self, min: i64, max: i64) -> Result<Vec<i64>, ParseError> {
        const EXPECTED: &str = "a list of whole numbers";
        let Value::List(items) = self.value else { return Err(self.wrong_type(EXPECTED)) };
        items
            .iter()
            .map(|item| {
                let item = Field { line: item.line, value: &item.value, ..*self };
                match item.value {
                    Value::Int(value) => item.in_range(*value, min, max),
                    _ => Err(item.wrong_type(EXPECTED)),
                }
            })
            .collect()
    }

    /// No value: none, `null` or an empty text.
    pub(crate) fn nothing(&self) -> Result<(), ParseError> {
        match self.value {
            Value::Omitted | Value::Null => Ok(()),
            Value::Text(text) if text.is_empty() => Ok(()),
            _ => Err(self.wrong_type("no value, or \"\"")),
        }
    }

    pub(crate) fn wrong_type(&self, expected: &'static str) -> ParseError {
        let found = match self.value {
            Value::Omitted => "no value".to_owned(),
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Number(number) => shown(number),
            Value::Text(text) => format!("\"{}\"", shown(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        ParseError::WrongType { at: self.place(), expected, found }
    }

    pub(crate) fn unknown_key<'k>(&self, known: impl IntoIterator<Item = &'k str>) -> ParseError {
        ParseError::UnknownKey { at: self.place(), nearest: nearest(self.key, known) }
    }

    pub(crate) fn unknown_word<'k>(
        &self,
        word: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> ParseError {
        ParseError::UnknownWord {
            at: self.place(),
            text: shown(word),
            nearest: nearest(word, known),
        }
    }

    pub(crate) fn repeated(&self, first: u32) -> ParseError {
        ParseError::Repeated { at: self.place(), first }
    }

    pub(crate) fn missing(&self, key: &'static str) -> ParseError {
        ParseError::Missing { at: self.place(), key }
    }

    pub(crate) fn unsupported(&self, problem: &'static str, advice: &'static str) -> ParseError {
        ParseError::Unsupported { at: self.place(), problem, advice }
    }

    pub(crate) fn invalid(&self, problem: &'static str, advice: &'static str) -> ParseError {
        ParseError::Invalid { at: self.place(), problem, advice }
    }
}
