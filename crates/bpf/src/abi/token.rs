//! Declarations as words and signs.

/// What a declaration is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or a word of C.
    Word(&'a str),
    /// `@since`, `@acquire`: a mark, without the `@`.
    Mark(&'a str),
    /// `7.1`, after `@since` and `@until`.
    Version(&'a str),
    /// A number, which may have a sign.
    Number(i128),
    /// Anything else: one character.
    Sign(char),
}

/// A token and its line, from 1.
pub(super) type At<'a> = (Token<'a>, usize);

/// All tokens of a text, without comments. What is wrong, and in which line.
pub(super) fn tokens(text: &str) -> Result<Vec<At<'_>>, (usize, String)> {
    let mut all = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '\n' => {
                line += 1;
                1
            }
            ' ' | '\t' => 1,
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => {
                let end = rest.find("*/").ok_or((line, "a comment does not end".to_owned()))?;
                line += rest[..end].matches('\n').count();
                end + 2
            }
            '@' => {
                let len = word(&rest[1..]);
                all.push((Token::Mark(&rest[1..=len]), line));
                len + 1
            }
            '-' | '0'..='9' => {
                let digits = |c: char| c.is_ascii_alphanumeric() || c == '.';
                let len = 1 + rest[1..].find(|c| !digits(c)).unwrap_or(rest.len() - 1);
                let text = &rest[..len];
                let token = if text.contains('.') {
                    Token::Version(text)
                } else {
                    let number = match text.strip_prefix("0x") {
                        Some(hex) => i128::from_str_radix(hex, 16),
                        None => text.parse(),
                    };
                    Token::Number(number.map_err(|_| (line, format!("`{text}` is no number")))?)
                };
                all.push((token, line));
                len
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let len = word(rest);
                all.push((Token::Word(&rest[..len]), line));
                len
            }
            sign => {
                all.push((Token::Sign(sign), line));
                sign.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    Ok(all)
}

/// How long the word is that a text starts with.
fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}
