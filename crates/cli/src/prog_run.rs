//! Programs that a scheduler's user space would have the kernel run: `--prog-run`.

use std::fmt::Write as _;
use std::str::FromStr;

use scxlab_bpf::sched::{BpfScheduler, MAX_CONTEXT};
use scxlab_engine::{Engine, Nanos, SchedId};

use crate::duration;
use crate::report::ProgRunPart;
use crate::status::Failure;

/// `NAME[=HEX][@TIME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgRun {
    /// The program.
    pub name: String,
    /// Its context.
    pub context: Vec<u8>,
    /// When, in virtual time; nothing for before the scheduler is attached.
    pub at: Option<Nanos>,
}

impl FromStr for ProgRun {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, at) = match text.split_once('@') {
            None => (text, None),
            Some((rest, at)) => (rest, Some(duration::parse(at)?)),
        };
        let (name, hex) = rest.split_once('=').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err("give a program's name, as in tune, tune=0100 or tune=0100@2s".to_owned());
        }
        Ok(Self { name: name.to_owned(), context: bytes(hex)?, at })
    }
}

/// Two digits a byte, in the order of the memory.
fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2));
    let digits = digits.ok_or("a context is bytes of two hex digits each, as in 0100ff")?;
    if digits.len() / 2 > MAX_CONTEXT {
        return Err(format!("a context has up to {MAX_CONTEXT} bytes"));
    }
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

/// The same as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether all programs that are asked for are there, and have time to run.
///
/// # Errors
/// What is wrong with the first that is not.
pub(crate) fn check(
    asked: &[ProgRun],
    compiled: Option<&BpfScheduler>,
    duration: Nanos,
) -> Result<(), Failure> {
    let Some(first) = asked.first() else { return Ok(()) };
    let Some(compiled) = compiled else {
        return Err(Failure::wrong(format_args!(
            "--prog-run {}: only a compiled scheduler has programs to run; leave it out, or give a \
             .bpf.o file",
            first.name
        )));
    };
    let known: Vec<&str> = compiled.syscall_names().collect();
    for ProgRun { name, .. } in asked {
        let wrong = |why: String| Err(Failure::wrong(format_args!("--prog-run {name}: {why}")));
        if !known.contains(&name.as_str()) {
            let what = if compiled.has_program(name) {
                "it is no program of the kind syscall, so nobody can have it run"
            } else {
                "there is no such program of the kind syscall"
            };
            return wrong(format!("{what}; {}", those_there_are(name, &known)));
        }
    }
    check_times(asked, duration)
}

/// Whether all of them have time to run.
///
/// # Errors
/// The first that does not.
pub(crate) fn check_times(asked: &[ProgRun], duration: Nanos) -> Result<(), Failure> {
    for ProgRun { name, at, .. } in asked {
        if let Some(at) = at.filter(|&at| at >= duration) {
            let [at, end] = [at, duration].map(duration::exact);
            return Err(Failure::wrong(format_args!(
                "--prog-run {name}: at {at} the run has ended; it takes {end}"
            )));
        }
    }
    Ok(())
}

/// The nearest name, and all there are.
pub(crate) fn those_there_are(name: &str, known: &[&str]) -> String {
    // The distance takes time in proportion to both lengths.
    const LONGEST: usize = 128;
    let near = |known: &&&str| {
        let distance = strsim::damerau_levenshtein(name, known);
        (distance <= known.len().max(3) / 2).then_some(distance)
    };
    let nearest = known
        .iter()
        .filter(|known| name.len() <= LONGEST && known.len() <= LONGEST)
        .filter_map(|known| Some((near(&known)?, known)))
        .min_by_key(|(distance, _)| *distance);
    match (nearest, known) {
        (_, []) => "it has none".to_owned(),
        (None, known) => format!("there are: {}", known.join(", ")),
        (Some((_, nearest)), known) => {
            format!("did you mean `{nearest}`? (there are: {})", known.join(", "))
        }
    }
}

/// Those of a run, in the order in which they come.
#[derive(Debug)]
pub(crate) struct ProgRuns<'a> {
    compiled: Option<&'a BpfScheduler>,
    /// With their places in the command line.
    waiting: Vec<(usize, &'a ProgRun)>,
    done: Vec<(usize, ProgRunPart)>,
}

impl<'a> ProgRuns<'a> {
    pub fn new(asked: &'a [ProgRun], compiled: Option<&'a BpfScheduler>) -> Self {
        let mut waiting: Vec<_> = asked.iter().enumerate().collect();
        waiting.sort_by_key(|(_, asked)| asked.at);
        Self { compiled, waiting, done: Vec::new() }
    }

    /// Those that come before the scheduler is attached.
    ///
    /// # Errors
    /// A program does what it must not.
    pub fn before(&mut self, cx: &mut scxlab_engine::Cx<'_>) -> Result<(), Failure> {
        while let Some(&(place, asked)) =
            self.waiting.first().filter(|(_, asked)| asked.at.is_none())
        {
            self.waiting.remove(0);
            self.one(cx, place, asked)
                .map_err(|why| Failure::wrong(format_args!("--prog-run {}: {why}", asked.name)))?;
        }
        Ok(())
    }

    /// When the next one comes.
    pub fn next(&self) -> Option<Nanos> {
        self.waiting.first().and_then(|(_, asked)| asked.at)
    }

    /// Runs what has come. A program that does what it must not has ended its scheduler.
    pub fn run(&mut self, engine: &mut Engine, sched: SchedId) {
        while self.next().is_some_and(|at| at <= engine.now()) && engine.exit_info(sched).is_none()
        {
            let (place, asked) = self.waiting.remove(0);
            let _ = engine.prog_run(sched, |cx| self.one(cx, place, asked));
        }
    }

    fn one(
        &mut self,
        cx: &mut scxlab_engine::Cx<'_>,
        place: usize,
        asked: &ProgRun,
    ) -> Result<(), String> {
        let Some(compiled) = self.compiled else { return Ok(()) };
        let at_ns = asked.at.map(|_| cx.now().0);
        let ran = compiled.prog_run(cx, &asked.name, &asked.context);
        let ran = ran.as_ref();
        let changed = ran.ok().filter(|ran| ran.context != asked.context);
        self.done.push((
            place,
            ProgRunPart {
                name: asked.name.clone(),
                at_ns,
                retval: ran.ok().map(|ran| ran.retval),
                context: changed.map(|ran| hex(&ran.context)),
            },
        ));
        ran.map(drop).map_err(ToString::to_string)
    }

    /// What became of all of them, in the order of the command line. Those whose scheduler was gone
    /// by then returned nothing.
    pub fn finish(mut self) -> Vec<ProgRunPart> {
        for (place, asked) in self.waiting {
            let (name, at_ns) = (asked.name.clone(), asked.at.map(|at| at.0));
            self.done.push((place, ProgRunPart { name, at_ns, retval: None, context: None }));
        }
        self.done.sort_by_key(|(place, _)| *place);
        self.done.into_iter().map(|(_, part)| part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let run = |name: &str, context: &[u8], at| {
            Ok(ProgRun { name: name.into(), context: context.into(), at })
        };
        assert_eq!("tune".parse(), run("tune", &[], None));
        assert_eq!("tune=".parse(), run("tune", &[], None));
        assert_eq!("tune=01fF".parse(), run("tune", &[1, 255], None));
        let half = Some(Nanos::from_millis(500));
        assert_eq!("tune@500ms".parse(), run("tune", &[], half));
        assert_eq!("tune=00@0.5s".parse(), run("tune", &[0], half));
        let long = format!("tune={}", "00".repeat(MAX_CONTEXT + 1));
        assert!(long[..long.len() - 2].parse::<ProgRun>().is_ok());
        for text in ["", "=00", "@1s", "a=0", "a=0g", "a=é0", "a@", "a@0", "a@never", &long] {
            assert!(text.parse::<ProgRun>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_nearest_is_named() {
        let known = ["tune", "set_layers"];
        assert!(those_there_are("tnue", &known).starts_with("did you mean `tune`?"));
        assert_eq!(those_there_are("frobnicate", &known), "there are: tune, set_layers");
        assert_eq!(those_there_are("tune", &[]), "it has none");
    }
}
