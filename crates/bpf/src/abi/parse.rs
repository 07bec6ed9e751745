//! Reads declarations: the part of C that `kernel/*.h` are written in.

use super::Version;
use super::token::{At, Token, tokens};

/// A declaration that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct DeclarationError {
    /// Its file.
    pub file: &'static str,
    /// Its line, from 1; 0 if it is about all of them.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// When something is there, and what else its marks say.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    since: Option<Version>,
    until: Option<Version>,
    pub others: Vec<String>,
}

impl Marks {
    pub fn hold_in(&self, version: Version) -> bool {
        self.since.is_none_or(|since| since <= version)
            && self.until.is_none_or(|until| version <= until)
    }

    pub fn has(&self, mark: &str) -> bool {
        self.others.iter().any(|other| other == mark)
    }
}

/// A type.
#[derive(Clone, Debug)]
pub(super) enum Ty {
    /// `int` and its like, as the kernel's compiler spells it.
    Basic(&'static str),
    /// By another name.
    Named(String),
    Struct(String),
    Union(String),
    Enum(String),
    /// Declared where it is used.
    Anonymous {
        union: bool,
        members: Vec<Member>,
    },
    Const(Box<Ty>),
    Volatile(Box<Ty>),
    Ptr(Box<Ty>),
    Array(Box<Ty>, u32),
    Func(Box<Ty>, Vec<(String, Ty)>),
}

/// A member of a structure or a union.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub marks: Marks,
    pub name: String,
    pub ty: Ty,
    /// 0 if it is no bit-field.
    pub bits: u8,
}

/// A name and a number.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub marks: Marks,
    pub name: String,
    pub value: i128,
}

/// What is declared.
#[derive(Clone, Debug)]
pub(super) enum What {
    Typedef { name: String, ty: Ty },
    Composite { name: String, union: bool, members: Vec<Member> },
    Enum { name: String, wide: bool, values: Vec<Value> },
    Func { name: String, result: Ty, params: Vec<(String, Ty)> },
    Var { name: String, ty: Ty },
}

/// A declaration.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub marks: Marks,
    pub file: &'static str,
    pub line: usize,
    pub what: What,
}

impl Item {
    pub fn wrong(&self, what: impl Into<String>) -> DeclarationError {
        DeclarationError { file: self.file, line: self.line, what: what.into() }
    }
}

/// All declarations of a text.
pub(super) fn parse(file: &'static str, text: &str) -> Result<Vec<Item>, DeclarationError> {
    let wrong = |(line, what)| DeclarationError { file, line, what };
    let tokens = tokens(text).map_err(wrong)?;
    let mut parser = Parser { file, tokens: &tokens, at: 0 };
    let mut items = Vec::new();
    while parser.at < tokens.len() {
        items.push(parser.item().map_err(|what| wrong((parser.line(), what)))?);
    }
    Ok(items)
}

struct Parser<'a> {
    file: &'static str,
    tokens: &'a [At<'a>],
    at: usize,
}

/// What follows a name in a declarator, from the inside out.
enum Around {
    Ptr,
    Const,
    Volatile,
    Array(u32),
    Func(Vec<(String, Ty)>),
}

type Result1<T> = Result<T, String>;

impl<'a> Parser<'a> {
    /// The line of the last token that was taken.
    fn line(&self) -> usize {
        self.tokens.get(self.at.saturating_sub(1)).map_or(0, |&(_, line)| line)
    }

    fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Result1<&'a Token<'a>> {
        let token = self.peek().ok_or("it ends in the middle of a declaration")?;
        self.at += 1;
        Ok(token)
    }

    /// Whether this sign is next; takes it if so.
    fn takes(&mut self, sign: char) -> bool {
        let is_it = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: char) -> Result1<()> {
        match self.next()? {
            Token::Sign(is) if *is == sign => Ok(()),
            other => Err(format!("`{sign}` is expected, not {other:?}")),
        }
    }

    fn word(&mut self) -> Result1<&'a str> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => Err(format!("a name is expected, not {other:?}")),
        }
    }

    fn number<T: TryFrom<i128>>(&mut self) -> Result1<T> {
        match self.next()? {
            Token::Number(number) => {
                T::try_from(*number).map_err(|_| format!("{number} is out of range"))
            }
            other => Err(format!("a number is expected, not {other:?}")),
        }
    }

    fn marks(&mut self) -> Result1<Marks> {
        let mut marks = Marks::default();
        while let Some(Token::Mark(mark)) = self.peek() {
            self.at += 1;
            if !matches!(*mark, "since" | "until") {
                marks.others.push((*mark).to_owned());
                continue;
            }
            let Token::Version(version) = self.next()? else {
                return Err(format!("a version is expected after @{mark}"));
            };
            let version = version.parse().map_err(|err| format!("{err}"))?;
            let place = if *mark == "since" { &mut marks.since } else { &mut marks.until };
            *place = Some(version);
        }
        Ok(marks)
    }

    fn item(&mut self) -> Result1<Item> {
        let marks = self.marks()?;
        self.at += 1;
        let line = self.line();
        self.at -= 1;
        let what = self.what(&marks)?;
        Ok(Item { marks, file: self.file, line, what })
    }

    fn what(&mut self, marks: &Marks) -> Result1<What> {
        let start = self.at;
        if let Some(Token::Word(kind @ ("struct" | "union" | "enum"))) = self.peek() {
            self.at += 1;
            let name = match self.peek() {
                Some(Token::Word(name)) => {
                    self.at += 1;
                    (*name).to_owned()
                }
                _ => String::new(),
            };
            if *kind == "enum" {
                let wide = self.takes(':');
                if wide && self.word()? != "u64" {
                    return Err("an enumeration is of u64 or of what C takes".to_owned());
                }
                self.expect('{')?;
                let values = self.values()?;
                self.expect(';')?;
                return Ok(What::Enum { name, wide, values });
            }
            if self.takes('{') {
                let members = self.members()?;
                self.expect(';')?;
                return Ok(What::Composite { name, union: *kind == "union", members });
            }
            self.at = start;
        }
        if self.peek() == Some(&Token::Word("typedef")) {
            self.at += 1;
            let (name, ty) = self.declaration()?;
            self.expect(';')?;
            return Ok(What::Typedef { name, ty });
        }
        let (name, ty) = self.declaration()?;
        self.expect(';')?;
        match ty {
            Ty::Func(result, params) => Ok(What::Func { name, result: *result, params }),
            ty if marks.has("var") || marks.has("symbol") => Ok(What::Var { name, ty }),
            _ => Err(format!("`{name}` is no function, and has neither @var nor @symbol")),
        }
    }

    fn values(&mut self) -> Result1<Vec<Value>> {
        let mut values = Vec::new();
        while !self.takes('}') {
            let marks = self.marks()?;
            let name = self.word()?.to_owned();
            self.expect('=')?;
            let value = self.number()?;
            self.expect(',')?;
            values.push(Value { marks, name, value });
        }
        Ok(values)
    }

    fn members(&mut self) -> Result1<Vec<Member>> {
        let mut members = Vec::new();
        while !self.takes('}') {
            let marks = self.marks()?;
            let (name, ty) = self.declaration()?;
            let bits = if self.takes(':') { self.number()? } else { 0 };
            self.expect(';')?;
            if name.is_empty() && !matches!(ty, Ty::Anonymous { .. }) {
                return Err("a member has no name".to_owned());
            }
            members.push(Member { marks, name, ty, bits });
        }
        Ok(members)
    }

    /// A type with a name, which may be missing.
    fn declaration(&mut self) -> Result1<(String, Ty)> {
        let base = self.base()?;
        let (name, around) = self.declarator()?;
        let ty = around.into_iter().fold(base, |ty, around| match around {
            Around::Ptr => Ty::Ptr(ty.into()),
            Around::Const => Ty::Const(ty.into()),
            Around::Volatile => Ty::Volatile(ty.into()),
            Around::Array(len) => Ty::Array(ty.into(), len),
            Around::Func(params) => Ty::Func(ty.into(), params),
        });
        Ok((name, ty))
    }

    /// What stands before the declarator.
    fn base(&mut self) -> Result1<Ty> {
        let (mut constant, mut volatile) = (false, false);
        let mut basic: Vec<&str> = Vec::new();
        let mut base = None;
        while let Some(Token::Word(word)) = self.peek() {
            let is_basic = BASIC_WORDS.contains(word);
            if !is_basic && !matches!(*word, "const" | "volatile") && base.is_some() {
                break;
            }
            if !is_basic && !basic.is_empty() {
                break;
            }
            self.at += 1;
            match *word {
                "const" => constant = true,
                "volatile" => volatile = true,
                word if is_basic => basic.push(word),
                "struct" | "union" if self.takes('{') => {
                    let members = self.members()?;
                    base = Some(Ty::Anonymous { union: *word == "union", members });
                }
                "struct" => base = Some(Ty::Struct(self.word()?.to_owned())),
                "union" => base = Some(Ty::Union(self.word()?.to_owned())),
                "enum" => base = Some(Ty::Enum(self.word()?.to_owned())),
                name => base = Some(Ty::Named(name.to_owned())),
            }
        }
        let mut ty = match base {
            Some(ty) if basic.is_empty() => ty,
            Some(_) => return Err(format!("`{}` is no type", basic.join(" "))),
            None => Ty::Basic(spelling(&basic)?),
        };
        if volatile {
            ty = Ty::Volatile(ty.into());
        }
        Ok(if constant { Ty::Const(ty.into()) } else { ty })
    }

    fn declarator(&mut self) -> Result1<(String, Vec<Around>)> {
        let mut around = Vec::new();
        loop {
            if self.takes('*') {
                around.push(Around::Ptr);
                continue;
            }
            match self.peek() {
                Some(Token::Word("const")) => around.push(Around::Const),
                Some(Token::Word("volatile")) => around.push(Around::Volatile),
                _ => break,
            }
            self.at += 1;
        }
        let mut name = String::new();
        let mut inner = Vec::new();
        let is_nested = matches!(
            self.tokens.get(self.at..),
            Some([(Token::Sign('('), _), (Token::Sign('*'), _), ..])
        );
        if let Some(Token::Word(word)) = self.peek() {
            self.at += 1;
            name = (*word).to_owned();
        } else if is_nested {
            self.expect('(')?;
            (name, inner) = self.declarator()?;
            self.expect(')')?;
        }
        let mut behind = Vec::new();
        loop {
            if self.takes('[') {
                behind.push(Around::Array(self.number()?));
                self.expect(']')?;
            } else if self.takes('(') {
                behind.push(Around::Func(self.params()?));
            } else {
                break;
            }
        }
        around.extend(behind.into_iter().rev());
        around.extend(inner);
        Ok((name, around))
    }

    fn params(&mut self) -> Result1<Vec<(String, Ty)>> {
        let mut params = Vec::new();
        loop {
            let param = self.declaration()?;
            let is_void = matches!(param.1, Ty::Basic("void"));
            if !is_void {
                params.push(param);
            } else if !params.is_empty() || !param.0.is_empty() {
                return Err("a parameter is `void`".to_owned());
            }
            if !is_void && self.takes(',') {
                continue;
            }
            self.expect(')')?;
            return Ok(params);
        }
    }
}

const BASIC_WORDS: &[&str] =
    &["void", "char", "short", "int", "long", "signed", "unsigned", "_Bool"];

/// A type as gcc, which builds distributions' kernels, calls it in BTF.
fn spelling(words: &[&str]) -> Result1<&'static str> {
    Ok(match words {
        ["void"] => "void",
        ["char"] => "char",
        ["signed", "char"] => "signed char",
        ["unsigned", "char"] => "unsigned char",
        ["short"] => "short int",
        ["unsigned", "short"] => "short unsigned int",
        ["int"] => "int",
        ["unsigned", "int"] => "unsigned int",
        ["long"] => "long int",
        ["unsigned", "long"] => "long unsigned int",
        ["long", "long"] => "long long int",
        ["unsigned", "long", "long"] => "long long unsigned int",
        ["_Bool"] => "_Bool",
        [] => return Err("a type is missing".to_owned()),
        other => return Err(format!("`{}` is no type", other.join(" "))),
    })
}
