//! A reader of JSON as people write it for rt-app.
//!
//! Beyond JSON it takes comments (`/* */`, `//`, `#`), trailing commas, single quotes, keys
//! without a value, and keys that repeat; their order is kept, as it is the order of a program.

use std::borrow::Cow;

use crate::error::{ParseError, Place, shown};

/// The longest text that is read, in bytes.
pub const MAX_TEXT: usize = 16 << 20;
/// How deep objects and lists may nest.
pub const MAX_DEPTH: usize = 32;
/// The most values that a text may hold.
pub const MAX_VALUES: usize = 1_000_000;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'t> {
    /// A key stands alone.
    Omitted,
    Null,
    Bool(bool),
    Int(i64),
    /// A number that is not an `i64`, as it is written.
    Number(&'t str),
    Text(Cow<'t, str>),
    List(Vec<Item<'t>>),
    Object(Vec<Member<'t>>),
}

/// A value and its line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item<'t> {
    pub(crate) line: u32,
    pub(crate) value: Value<'t>,
}

/// A key with its value; the line is the key's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member<'t> {
    pub(crate) key: Cow<'t, str>,
    pub(crate) line: u32,
    pub(crate) value: Value<'t>,
}

/// Reads one value, which must be all there is.
pub(crate) fn read<'t>(file: &str, text: &'t str) -> Result<Item<'t>, ParseError> {
    let mut reader = Reader { file, text, pos: 0, line: 1, values: 0, depth: 0, path: Vec::new() };
    if text.len() > MAX_TEXT {
        return Err(ParseError::TooLong { at: reader.place(1), bytes: text.len() });
    }
    reader.take('\u{feff}');
    reader.skip()?;
    let line = reader.line;
    let value = reader.value()?;
    reader.skip()?;
    match reader.peek() {
        None => Ok(Item { line, value }),
        Some(c) => {
            let c = shown(c.encode_utf8(&mut [0; 4]));
            Err(reader.syntax(format!("`{c}` after the end; remove it")))
        }
    }
}

struct Reader<'f, 't> {
    file: &'f str,
    text: &'t str,
    pos: usize,
    line: u32,
    values: usize,
    depth: usize,
    path: Vec<Cow<'t, str>>,
}

impl<'t> Reader<'_, 't> {
    fn value(&mut self) -> Result<Value<'t>, ParseError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(ParseError::TooManyValues { at: self.place(self.line) });
        }
        match self.peek() {
            None => Err(self.syntax("the text ends where a value is expected".to_owned())),
            Some('{') => self.nested(Self::object),
            Some('[') => self.nested(Self::list),
            Some(quote @ ('"' | '\'')) => Ok(Value::Text(self.string(quote)?)),
            Some('-' | '+' | '.' | '0'..='9') => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.word(),
            Some(c) => {
                Err(self
                    .syntax(format!("found `{}`; give a value", shown(c.encode_utf8(&mut [0; 4])))))
            }
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Value<'t>, ParseError>,
    ) -> Result<Value<'t>, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(ParseError::TooDeep { at: self.place(self.line) });
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Value<'t>, ParseError> {
        let opened = self.line;
        self.take('{');
        let mut members = Vec::new();
        loop {
            self.skip()?;
            let quote = match self.peek() {
                Some('}') => break,
                Some(quote @ ('"' | '\'')) => quote,
                found => return Err(self.not_in("{", "a key in quotes or `}`", opened, found)),
            };
            let line = self.line;
            let key = self.string(quote)?;
            self.path.push(key.clone());
            self.skip()?;
            let value = if self.take(':') {
                self.skip()?;
                match self.peek() {
                    Some(',' | '}') => self.omitted()?,
                    _ => self.value()?,
                }
            } else {
                match self.peek() {
                    Some(',' | '}') => self.omitted()?,
                    found => return Err(self.not_in("{", "`:`, `,` or `}`", opened, found)),
                }
            };
            self.skip()?;
            members.push(Member { key, line, value });
            match self.peek() {
                Some(',') => self.bump(','),
                Some('}') => {}
                found => return Err(self.not_in("{", "`,` or `}`", opened, found)),
            }
            self.path.pop();
        }
        self.take('}');
        Ok(Value::Object(members))
    }

    fn omitted(&mut self) -> Result<Value<'t>, ParseError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(ParseError::TooManyValues { at: self.place(self.line) });
        }
        Ok(Value::Omitted)
    }

    fn list(&mut self) -> Result<Value<'t>, ParseError> {
        let opened = self.line;
        self.take('[');
        let mut items = Vec::new();
        loop {
            self.skip()?;
            match self.peek() {
                Some(']') => break,
                None => return Err(self.not_in("[", "a value or `]`", opened, None)),
                Some(_) => {}
            }
            let line = self.line;
            let value = self.value()?;
            items.push(Item { line, value });
            self.skip()?;
            match self.peek() {
                Some(',') => self.bump(','),
                Some(']') => {}
                found => return Err(self.not_in("[", "`,` or `]`", opened, found)),
            }
        }
        self.take(']');
        Ok(Value::List(items))
    }

    fn number(&mut self) -> Result<Value<'t>, ParseError> {
        let number = self.run_of(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        if let Ok(int) = number.parse() {
            return Ok(Value::Int(int));
        }
        // Anything else that is a number gets its message where it is known what it is for.
        let numeric =
            number.bytes().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        if numeric && number.parse::<f64>().is_ok() {
            return Ok(Value::Number(number));
        }
        Err(self.syntax(format!("`{}` is not a number; correct it", shown(number))))
    }

    fn word(&mut self) -> Result<Value<'t>, ParseError> {
        let word = self.run_of(|c| c.is_ascii_alphanumeric() || c == '_');
        if word.eq_ignore_ascii_case("true") {
            Ok(Value::Bool(true))
        } else if word.eq_ignore_ascii_case("false") {
            Ok(Value::Bool(false))
        } else if word.eq_ignore_ascii_case("null") {
            Ok(Value::Null)
        } else {
            Err(self.syntax(format!("found `{}`; put texts in quotes", shown(word))))
        }
    }

    fn string(&mut self, quote: char) -> Result<Cow<'t, str>, ParseError> {
        self.take(quote);
        let plain = self.run_of(|c| c != quote && c != '\\' && !c.is_control());
        if self.take(quote) {
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = String::from(plain);
        loop {
            match self.peek() {
                Some('\\') => {
                    self.bump('\\');
                    let c = self.escape()?;
                    if c.is_control() {
                        return Err(
                            self.syntax("a control character in a text; remove it".to_owned())
                        );
                    }
                    out.push(c);
                }
                Some(c) if c == quote => {
                    self.bump(c);
                    return Ok(Cow::Owned(out));
                }
                Some(c) if !c.is_control() => {
                    self.bump(c);
                    out.push(c);
                }
                Some('\n' | '\r') | None => {
                    return Err(self.syntax(format!("the text is not closed; add a {quote}")));
                }
                Some(_) => {
                    return Err(self.syntax("a control character in a text; remove it".to_owned()));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        let c = self.peek();
        if let Some(c) = c {
            self.bump(c);
        }
        match c {
            Some(c @ ('"' | '\'' | '\\' | '/')) => Ok(c),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => {
                let high = self.hex()?;
                let mut units = vec![high];
                if (0xd800..=0xdbff).contains(&high) && self.text[self.pos..].starts_with("\\u") {
                    self.pos += 2;
                    units.push(self.hex()?);
                }
                match char::decode_utf16(units).collect::<Result<Vec<_>, _>>().as_deref() {
                    Ok([c]) => Ok(*c),
                    _ => {
                        Err(self
                            .syntax("\\u does not stand for a character; correct it".to_owned()))
                    }
                }
            }
            _ => {
                Err(self.syntax("unknown escape in a text; write \\\\ for a backslash".to_owned()))
            }
        }
    }

    fn hex(&mut self) -> Result<u16, ParseError> {
        let digits = self.text.get(self.pos..self.pos + 4);
        match digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())) {
            Some(digits) => {
                self.pos += 4;
                // Four hexadecimal digits always fit.
                Ok(u16::from_str_radix(digits, 16).unwrap_or(0))
            }
            None => Err(self.syntax("\\u needs four hexadecimal digits; add them".to_owned())),
        }
    }

    /// Past blanks and comments.
    fn skip(&mut self) -> Result<(), ParseError> {
        loop {
            self.run_of(|c| c.is_whitespace());
            let rest = &self.text[self.pos..];
            if rest.starts_with('#') || rest.starts_with("//") {
                self.run_of(|c| c != '\n');
            } else if let Some(comment) = rest.strip_prefix("/*") {
                match comment.find("*/") {
                    Some(end) => self.advance("/*".len() + end + "*/".len()),
                    None => {
                        return Err(self.syntax("the comment is not closed; add */".to_owned()));
                    }
                }
            } else {
                return Ok(());
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        if there {
            self.bump(c);
        }
        there
    }

    /// Past `c`, which is the next character.
    fn bump(&mut self, c: char) {
        self.advance(c.len_utf8());
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.text[self.pos..self.pos + bytes];
        self.line += passed.bytes().filter(|&b| b == b'\n').count() as u32;
        self.pos += bytes;
    }

    fn run_of(&mut self, part: impl Fn(char) -> bool) -> &'t str {
        let rest = &self.text[self.pos..];
        let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
        self.advance(length);
        &rest[..length]
    }

    fn not_in(
        &self,
        opening: &str,
        expected: &str,
        opened: u32,
        found: Option<char>,
    ) -> ParseError {
        let found = match found {
            Some(c) => format!("found `{}`", shown(c.encode_utf8(&mut [0; 4]))),
            None => "the text ends".to_owned(),
        };
        self.syntax(format!(
            "{found} within the `{opening}` of line {opened}; {expected} must come here"
        ))
    }

    fn syntax(&self, problem: String) -> ParseError {
        ParseError::Syntax { at: self.place(self.line), problem }
    }

    fn place(&self, line: u32) -> Box<Place> {
        let field: Vec<_> = self.path.iter().map(|key| shown(key)).collect();
        Box::new(Place { file: self.file.to_owned(), line, field: field.join(".") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Vec<(String, u32, Value<'_>)> {
        match read("f", text).unwrap().value {
            Value::Object(members) => {
                members.into_iter().map(|m| (m.key.into_owned(), m.line, m.value)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn message(text: &str) -> String {
        read("f.json", text).unwrap_err().to_string()
    }

    #[test]
    fn keeps_repeated_keys_in_order_with_their_lines() {
        let got = members("{\"run\": 1,\n\"sleep\": 2,\n\"run\": 3}");
        assert_eq!(
            got,
            [
                ("run".to_owned(), 1, Value::Int(1)),
                ("sleep".to_owned(), 2, Value::Int(2)),
                ("run".to_owned(), 3, Value::Int(3)),
            ]
        );
    }

    #[test]
    fn takes_comments_trailing_commas_and_keys_alone() {
        let got = members(
            "# first\n{ /* two\nlines */ \"a\" : , // rest\n \"b\", \"c\": [1, 2,], 'd': TRUE, \"e\": null,\n}",
        );
        let values: Vec<_> = got.iter().map(|(key, line, _)| (key.as_str(), *line)).collect();
        assert_eq!(values, [("a", 3), ("b", 4), ("c", 4), ("d", 4), ("e", 4)]);
        assert_eq!(got[0].2, Value::Omitted);
        assert_eq!(got[1].2, Value::Omitted);
        assert_eq!(got[3].2, Value::Bool(true));
        assert_eq!(got[4].2, Value::Null);
        assert_eq!(members("{\"a\"}")[0].2, Value::Omitted);
        assert_eq!(members("\u{feff}{}"), []);
    }

    #[test]
    fn comment_marks_in_texts_are_text() {
        assert_eq!(members(r#"{"a": "/* no // # */"}"#)[0].2, Value::Text("/* no // # */".into()));
    }

    #[test]
    fn reads_escapes() {
        let text = r#"{"a": "\"\\\/\u00e9\ud83d\ude00\'"}"#;
        assert_eq!(members(text)[0].2, Value::Text("\"\\/\u{e9}\u{1f600}'".into()));
        assert!(message(r#"{"a": "\ud800\u0041"}"#).contains("does not stand for a character"));
        assert!(message(r#"{"a": "\ud800"}"#).contains("does not stand for a character"));
        assert!(message(r#"{"a": "\u12"}"#).contains("four hexadecimal digits"));
        assert!(message(r#"{"a": "\q"}"#).contains("unknown escape"));
        assert!(message(r#"{"a": "\n"}"#).contains("control character"));
        assert!(message("{\"a\": \"\u{1}\"}").contains("control character"));
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(members("{\"a\": -9223372036854775808}")[0].2, Value::Int(i64::MIN));
        assert_eq!(members("{\"a\": 1.5}")[0].2, Value::Number("1.5"));
        assert_eq!(
            members("{\"a\": 99999999999999999999}")[0].2,
            Value::Number("99999999999999999999")
        );
        assert!(message("{\"a\": 1-2}").contains("`1-2` is not a number"));
        assert!(message("{\"a\": 0x10}").contains("`0x10` is not a number"));
    }

    #[test]
    fn mistakes_have_line_and_field() {
        assert_eq!(
            message("{\n\"a\": {\n\"b\": 1\n\"c\": 2}}"),
            "f.json:4: a.b: found `\"` within the `{` of line 2; `,` or `}` must come here"
        );
        assert_eq!(
            message("{\n\"a\": [1\n"),
            "f.json:3: a: the text ends within the `[` of line 2; `,` or `]` must come here"
        );
        assert_eq!(message("{\"a\": yes}"), "f.json:1: a: found `yes`; put texts in quotes");
        assert_eq!(message("{\n\"a"), "f.json:2: the text is not closed; add a \"");
        assert_eq!(message("\n/* a"), "f.json:2: the comment is not closed; add */");
        assert_eq!(message("{} x"), "f.json:1: `x` after the end; remove it");
        assert_eq!(message(""), "f.json:1: the text ends where a value is expected");
        assert!(message("{,}").contains("a key in quotes or `}` must come here"));
        assert!(message("{\"a\": @}").contains("give a value"));
        assert!(message("{\"a\" 1}").contains("`:`, `,` or `}` must come here"));
    }

    #[test]
    fn limits_hold() {
        let deep = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert!(read("f", &deep).is_ok());
        assert!(message(&"[".repeat(1_000_000)).contains("nested more than 32 deep"));
        assert!(
            message(&format!("[{}]", "0,".repeat(MAX_VALUES))).contains("more than 1000000 values")
        );
        assert!(message(&" ".repeat(MAX_TEXT + 1)).contains("at most 16777216 are read"));
    }
}
