//! Where output goes: the terminal or a pipe, and the files of `--json` and `--trace`.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};

use crate::status::Failure;

/// The width of text in a pipe.
const PIPE_WIDTH: usize = 100;

/// Where a command prints to.
pub struct Terminal {
    out: Box<dyn Write>,
    colour: bool,
    width: usize,
    progress: bool,
    error: Option<io::Error>,
}

impl Terminal {
    /// Standard output: with colour and its width if it is a terminal, and with progress if
    /// standard error is one.
    pub fn stdout() -> Self {
        let out = io::stdout();
        let interactive = out.is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let columns = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Self {
            colour: interactive && !set("NO_COLOR") && !dumb,
            width: columns.filter(|_| interactive).unwrap_or(PIPE_WIDTH).clamp(40, 120),
            progress: io::stderr().is_terminal(),
            out: Box::new(io::BufWriter::new(out)),
            error: None,
        }
    }

    /// Plain text to `out`, as into a pipe.
    pub fn plain(out: impl Write + 'static) -> Self {
        Self { out: Box::new(out), colour: false, width: PIPE_WIDTH, progress: false, error: None }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether to show progress.
    pub fn progress(&self) -> bool {
        self.progress
    }

    /// Prints `text`; [`Terminal::flush`] tells whether that went well.
    pub fn print(&mut self, text: &str) {
        if self.error.is_none() {
            self.error = self.out.write_all(text.as_bytes()).err();
        }
    }

    /// Prints all that is held back.
    ///
    /// # Errors
    /// Something could not be printed. A reader that closed the pipe has seen enough: that is none.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let error = self.error.take().or_else(|| self.out.flush().err());
        match error {
            Some(err) if err.kind() != io::ErrorKind::BrokenPipe => {
                let why = reason(&err);
                Err(Failure::wrong(format_args!("standard output: cannot write to it: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// `text` in green, where there is colour.
    pub fn good(&self, text: &str) -> String {
        self.styled(AnsiColor::Green.on_default().bold(), text)
    }

    /// `text` in red, where there is colour.
    pub fn bad(&self, text: &str) -> String {
        self.styled(AnsiColor::Red.on_default().bold(), text)
    }

    /// `text` in bold, where there is colour.
    pub fn bold(&self, text: &str) -> String {
        self.styled(Style::new().bold(), text)
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// A file that was named on the command line and is written at the end of a run, or during it.
/// It is opened before the run, so that a bad path costs no time.
#[derive(Debug)]
pub struct OutputFile {
    option: &'static str,
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// Creates the file at `path` for `option`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(option: &'static str, path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|err| cannot_write(option, path, &err))?;
        Ok(Self { option, path: path.to_owned(), file })
    }

    /// What to say when writing failed.
    pub fn failure(&self, err: &io::Error) -> Failure {
        cannot_write(self.option, &self.path, err)
    }

    /// Writes `text`, all there is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(mut self, text: &str) -> Result<(), Failure> {
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|err| self.failure(&err))
    }

    /// To write bit by bit.
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn cannot_write(option: &str, path: &Path, err: &io::Error) -> Failure {
    let path = path.display();
    Failure::wrong(format_args!("{option} {path}: cannot write it: {}", reason(err)))
}

/// Says something beside the report, on standard error. That nobody can read it there is no reason to
/// stop.
pub fn aside(what: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "scxlab: {what}");
}

/// The reason as text, without the number that the standard library appends.
pub fn reason(err: &io::Error) -> String {
    let text = err.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Refuses to write over what a run reads: its files, each with what it is.
///
/// # Errors
/// The file at `path`, which `option` names, is one of them.
pub fn spare(inputs: &[(&str, &Path)], option: &str, path: &Path) -> Result<(), Failure> {
    match inputs.iter().find(|(_, input)| same_file(path, input)) {
        Some((what, _)) => {
            let path = path.display();
            let message = format!("{option} {path}: that is the {what}; give another name");
            Err(Failure::wrong(message))
        }
        None => Ok(()),
    }
}

/// Whether both are there, and are one regular file.
pub fn same_file(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file());
    real(a).is_some_and(|a| real(b) == Some(a))
}

/// Where the JSON report goes.
#[derive(Debug)]
pub enum JsonTarget {
    /// Nowhere.
    None,
    /// Standard output, alone.
    Stdout,
    /// A file.
    File(OutputFile),
}

impl JsonTarget {
    /// What `--json` asked for.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(json: Option<&Path>) -> Result<Self, Failure> {
        Self::sparing(&[], json)
    }

    /// The same, which may be none of the files that are read, each given with what it is.
    ///
    /// # Errors
    /// It is one of them, or cannot be written.
    pub fn sparing(inputs: &[(&str, &Path)], json: Option<&Path>) -> Result<Self, Failure> {
        Ok(match json {
            None => Self::None,
            Some(path) if path == Path::new("-") => Self::Stdout,
            Some(path) => {
                spare(inputs, "--json", path)?;
                Self::File(OutputFile::create("--json", path)?)
            }
        })
    }

    /// Whether text for people would get in the way.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// Writes `value`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write<T: serde::Serialize>(
        self,
        value: &T,
        terminal: &mut Terminal,
    ) -> Result<(), Failure> {
        if matches!(self, Self::None) {
            return Ok(());
        }
        let mut text = serde_json::to_string_pretty(value)
            .map_err(|err| Failure::wrong(format_args!("the report cannot be written: {err}")))?;
        text.push('\n');
        match self {
            Self::None => {}
            Self::Stdout => terminal.print(&text),
            Self::File(file) => file.write(&text)?,
        }
        Ok(())
    }
}
