//! Guests that do not do what they should, played by shell scripts in QEMU's place. Each ends with an
//! error of its own, in bounded time and memory, and leaves no process and no file behind.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use scxlab_protocol::{Hello, Job, Kernel, Record, Task};
use scxlab_vm::{Accel, Cargo, Guest, Limits, Machine, VmError};
use tempfile::TempDir;

/// What every script begins with. `hello` says what an agent of ours does, `console` copies its input to the console's socket.
const PRELUDE: &str = r#"
for arg; do case $arg in socket,*) socket=${arg##*path=} ;; esac; done
here=${0%/*}
echo "$socket" >"$here/socket"
export STAND_IN="$0" SOCKET="$socket"
hello() { cat "$here/hello"; }
console() { "$here/test" --exact a_console --ignored --nocapture >"$here/console.out" 2>&1; }
"#;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(2);

/// One at a time: an executable that a fork of another test still has open cannot be executed.
static ONE: Mutex<()> = Mutex::new(());

/// The first word of this command's own agent.
fn hello() -> String {
    let kernel = Kernel { release: "9.9".to_owned(), cpus: 2, sched_ext: true, native_tid: true };
    let hello = Record::Hello(Hello::on(kernel));
    serde_json::to_string(&hello).expect("a record") + "\n"
}

/// What is executed as QEMU.
struct StandIn {
    machine: Machine,
    interrupt: Arc<AtomicBool>,
    dir: TempDir,
    _one: MutexGuard<'static, ()>,
}

impl StandIn {
    fn new(script: &str) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a directory");
        let test = std::env::current_exe().expect("a test has a path");
        std::os::unix::fs::symlink(test, dir.path().join("test")).expect("a link");
        let qemu = dir.path().join("qemu");
        fs::write(&qemu, format!("#!/bin/sh\n{PRELUDE}\n{script}\n")).expect("it is written");
        fs::write(dir.path().join("hello"), hello()).expect("it is written");
        fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let limits = Limits { up_kvm: SHORT, up_tcg: LONG, silence: LONG };
        let machine = Machine {
            accel: Accel::Tcg,
            qemu,
            kvm: dir.path().join("kvm"),
            limits,
            ..Machine::new("vmlinuz", 2)
        };
        Self { machine, interrupt: Arc::default(), dir, _one: one }
    }

    fn boot(&self) -> Result<Guest, VmError> {
        let job = Job { task: Task::Probe, seed: 1, cpus: 2 };
        // Nothing executes it; but it is to be a program.
        let cargo = Cargo { agent: PathBuf::from("/bin/sh"), job, files: Vec::new() };
        self.machine.boot(&cargo, &self.interrupt)
    }

    /// Boots it, and reads on to the error.
    fn error(&self) -> VmError {
        let error = match self.boot() {
            Ok(mut guest) => loop {
                match guest.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it is done"),
                    Err(err) => break err,
                }
            },
            Err(err) => err,
        };
        self.is_gone();
        error
    }

    fn message(&self) -> String {
        self.error().to_string()
    }

    /// Asks it to stop, a little later. Answers with when that was.
    fn interrupt_soon(&self) -> JoinHandle<Instant> {
        let interrupt = self.interrupt.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            interrupt.store(true, Ordering::Relaxed);
            Instant::now()
        })
    }

    /// No process of it, and no file of the guest's.
    fn is_gone(&self) {
        let left = processes_of(&self.dir.path().display().to_string());
        assert!(left.is_empty(), "left: {left:?}");
        if let Ok(socket) = fs::read_to_string(self.dir.path().join("socket")) {
            let dir = PathBuf::from(socket.trim_end());
            let dir = dir.parent().expect("it is in a directory");
            assert!(
                dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"scx"))
            );
            assert!(!dir.exists(), "{} is left", dir.display());
        }
    }
}

/// The processes whose command or environment has this in it; not those that only wait to be buried
/// by the first process.
fn processes_of(what: &str) -> Vec<String> {
    // Those of a group that was killed go one after the other.
    for _ in 0..2000 {
        if list(what).is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    list(what)
}

fn list(what: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("there is /proc").flatten();
    let texts = all.map(|process| {
        let of = |name| fs::read(process.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[of("cmdline"), of("environ")].concat()).replace('\0', " ")
    });
    texts.filter(|text| text.contains(what)).collect()
}

/// Memory of this process, in MiB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has some");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

/// Not a test: what a stand-in runs to write to its console.
#[test]
#[ignore = "run by stand-ins"]
fn a_console() {
    let Some(socket) = std::env::var_os("SOCKET") else { return };
    let mut socket = UnixStream::connect(socket).expect("somebody listens");
    let _ = io::copy(&mut io::stdin(), &mut socket);
}

#[test]
fn all_is_well() {
    let stand_in = StandIn::new("hello; echo '{\"record\":\"done\"}'; exec sleep 1000");
    let mut guest = stand_in.boot().expect("it says hello");
    assert_eq!((guest.kernel().release.as_str(), guest.notes()), ("9.9", [].as_slice()));
    assert_eq!(guest.next().expect("no error"), None);
    drop(guest);
    stand_in.is_gone();
}

#[test]
fn one_that_never_says_anything() {
    for (script, says) in [
        ("exec sleep 1000", "; it printed nothing"),
        ("(echo '[ 0.1] Linux'; exec sleep 1000) | console", "; its last lines:\n    [ 0.1] Linux"),
        ("echo 'no such device' >&2; exec sleep 1000", "; its last lines:\n    no such device"),
    ] {
        let mut stand_in = StandIn::new(script);
        stand_in.machine.limits.up_tcg = SHORT;
        let error = stand_in.error();
        assert!(matches!(error, VmError::NeverUp { after: SHORT, .. }), "{error}");
        assert_eq!(error.to_string(), format!("the guest did not come up within 2 s{says}"));
    }
}

#[test]
fn one_that_falls_silent() {
    let mut stand_in = StandIn::new("hello; (echo oops; exec sleep 1000) | console");
    stand_in.machine.limits.silence = SHORT;
    let message = stand_in.message();
    assert_eq!(message, "the guest hangs: nothing from it for 2 s; its last lines:\n    oops");
}

#[test]
fn one_that_ends() {
    for (script, says) in [
        ("hello; exit 7", "exit status: 7); it printed nothing"),
        ("exit 0", "exit status: 0); it printed nothing"),
        (
            "hello; echo one | console; echo two >&2; exit 1",
            "exit status: 1); its last lines:\n    one\n    two",
        ),
        ("hello; kill -KILL $$", "signal: 9 (SIGKILL)); it printed nothing"),
        // Not a record, as it has no end.
        ("hello; printf '{\"record\":\"do'", "exit status: 0); it printed nothing"),
    ] {
        let message = StandIn::new(script).message();
        assert_eq!(message, format!("the guest ended before it was done ({says}"), "{script}");
    }
}

/// The console cut: nothing can come any more, but QEMU lives on.
#[test]
fn one_whose_port_is_cut() {
    let message = StandIn::new("hello; exec >&-; exec sleep 1000").message();
    assert!(message.contains("done (its port was cut, and QEMU had to be killed)"), "{message}");
}

#[test]
fn one_that_talks_nonsense() {
    for (script, says) in [
        ("echo nonsense", "`nonsense` (expected ident"),
        ("hello; echo", "`` (EOF while parsing"),
        ("hello; echo '{\"record\":\"dance\"}'", "unknown variant `dance`"),
        ("hello; printf '\\033[2J\\377\\n'", "`[2J\u{fffd}` (expected value"),
        ("echo '{\"record\":\"done\"}'", "the first is to be `hello`"),
        ("hello; tr '\\0' x </dev/zero", "xxx` (longer than 4 MiB)"),
        ("hello; yes '[' | tr -d '\\n'", "[[[` (longer than 4 MiB)"),
        ("hello; yes '[' | head -c 2000000 | tr -d '\\n'; echo; sleep 1000", "[[[` ("),
    ] {
        let message = StandIn::new(script).message();
        assert!(message.starts_with("the guest sent what is no record: `"), "{message}");
        assert!(message.contains(says) && message.len() < 600, "{script}: {message}");
    }
}

/// One that was built before the command, or after it. Also the last try: software emulation would
/// not help.
#[test]
fn an_agent_that_is_not_ours_is_refused() {
    let old = r#"{"record":"hello","release":"9.9","cpus":2,"sched_ext":true,"native_tid":true}"#;
    let other = hello().replace("\"version\":\"", "\"version\":\"9.");
    for (said, says) in [(old, "is of an unknown version"), (other.trim_end(), "of version 9.")] {
        let script = format!("echo x >>\"$here/tries\"; echo '{said}'; exec sleep 1000");
        let mut stand_in = StandIn::new(&script);
        stand_in.machine.accel = Accel::Auto;
        File::create(&stand_in.machine.kvm).expect("it is written");
        // Slow or not, it gets to say it.
        stand_in.machine.limits.up_kvm = LONG;
        let error = stand_in.error();
        assert!(matches!(error, VmError::OtherAgent(_)), "{error}");
        let message = error.to_string();
        assert!(message.contains(says) && message.contains("`cargo xtask agent`"), "{message}");
        let tries = fs::read_to_string(stand_in.dir.path().join("tries")).unwrap_or_default();
        assert_eq!(tries, "x\n");
    }
}

#[test]
fn one_that_never_stops_talking_takes_no_memory() {
    let record =
        r#"hello; yes '{"record":"doing","what":"'"$(head -c 99999 /dev/zero | tr '\0' x)"'"}'"#;
    let console = "hello; yes 'the same again' | console";
    let line = "hello; tr '\\0' x </dev/zero | console";
    let complaints = "hello; yes 'the same again' >&2";
    for script in [record, console, line, complaints] {
        let mut stand_in = StandIn::new(script);
        stand_in.machine.limits.silence = SHORT;
        let mut guest = stand_in.boot().expect("it says hello");
        let before = memory();
        // While nobody listens, and while somebody does.
        thread::sleep(SHORT);
        for _ in 0..100 {
            if guest.next().is_err() {
                break;
            }
        }
        assert!(guest.log().len() <= 10_000);
        let more = memory().saturating_sub(before);
        assert!(more < 100, "{more} MiB more: {script}");
        drop(guest);
        stand_in.is_gone();
    }
}

#[test]
fn a_panic_needs_no_patience() {
    let panic = "echo 'Kernel panic - not syncing: Oops'; echo 'CPU: 1'";
    for end in ["", "; exec sleep 1000"] {
        for hello in ["", "hello; "] {
            let begin = Instant::now();
            let message = StandIn::new(&format!("{hello}({panic}{end}) | console")).message();
            let says = "panicked; its log:\n    Kernel panic - not syncing: Oops\n    CPU: 1";
            assert!(message.ends_with(says), "{message}");
            assert!(begin.elapsed() < LONG / 2, "{:?}", begin.elapsed());
        }
    }
}

/// The cause comes before the panic, and may be long.
#[test]
fn a_panic_is_told_with_the_oops_before_it() {
    let script = "hello; (echo fine; echo 'BUG: kernel NULL pointer dereference'; echo 'Oops: 0002'
        yes RAX | head -n \"$1\"; echo 'Kernel panic - not syncing: Fatal exception'; yes end |
        head -n 100) | console";
    for (lines, between) in [(2, "    RAX\n    RAX\n"), (1000, "    (962 more lines)\n")] {
        let message = StandIn::new(&format!("set -- {lines}; {script}")).message();
        let first = "the guest's kernel panicked; its log:\n    BUG: kernel NULL pointer";
        assert!(message.starts_with(first), "{message}");
        let panic = format!("{between}    Kernel panic - not syncing: Fatal exception\n    end\n");
        assert!(message.contains(&panic) && message.lines().count() < 70, "{message}");
        assert!(message.ends_with("    (81 more lines)"), "{message}");
    }
    // An oops that the kernel survives is told too, if nothing comes afterwards.
    let message =
        StandIn::new("hello; (echo one; echo 'Oops: 0002'; echo two) | console").message();
    assert!(
        message.ends_with("done (exit status: 0); its log:\n    Oops: 0002\n    two"),
        "{message}"
    );
}

#[test]
fn one_that_runs_out_of_memory() {
    for log in [
        "Out of memory: Killed process 70 (job) total-vm:1kB",
        "Kernel panic - not syncing: System is deadlocked on memory",
    ] {
        let message = StandIn::new(&format!("hello; echo '{log}' | console")).message();
        let first = "the guest ran out of memory; --memory gives it more; its log:";
        assert_eq!(message, format!("{first}\n    {log}"));
    }
}

/// Who was killed is told, and not only the end of the kernel's long account.
#[test]
fn one_that_is_killed_for_memory_is_named() {
    let script = "hello; (echo 'init invoked oom-killer: order=0'; yes Mem-Info | head -n 50
        echo 'Out of memory: Killed process 70 (job)'; yes account | head -n 50) | console";
    let message = StandIn::new(script).message();
    let log = "    init invoked oom-killer: order=0\n    Out of memory: Killed process 70 (job)";
    assert!(message.ends_with(&format!("; its log:\n{log}")), "{message}");
}

#[test]
fn one_that_cannot_be_killed_gently_and_has_children() {
    let script = "trap '' TERM INT HUP; (sleep 1000; :) & hello; while :; do sleep 1; done";
    let stand_in = StandIn::new(script);
    let guest = stand_in.boot().expect("it says hello");
    assert!(list(&stand_in.dir.path().display().to_string()).len() >= 2, "it has no children");
    let begin = Instant::now();
    drop(guest);
    assert!(begin.elapsed() < LONG / 2, "{:?}", begin.elapsed());
    stand_in.is_gone();
}

/// What it started is ended too when it ends by itself.
#[test]
fn one_that_leaves_children() {
    let message = StandIn::new("hello; (sleep 1000; :) >&- 2>&- & exit 3").message();
    assert!(message.contains("exit status: 3"), "{message}");
}

#[test]
fn one_that_cannot_be_executed() {
    let mut stand_in = StandIn::new("");
    let file = stand_in.dir.path().join("no-program");
    File::create(&file).expect("it is written");
    for qemu in [file, stand_in.dir.path().join("missing"), stand_in.dir.path().to_owned()] {
        stand_in.machine.qemu = qemu.clone();
        let error = stand_in.error();
        assert!(matches!(error, VmError::NoQemu { .. }), "{error}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("{} cannot be run (", qemu.display())), "{message}");
        assert!(message.contains("apt-get install qemu-system-x86"), "{message}");
    }
}

#[test]
fn an_interrupt_is_heard_at_once() {
    for script in ["exec sleep 1000", "hello; exec sleep 1000", "hello; exec >&-; sleep 1000"] {
        let stand_in = StandIn::new(script);
        let asked = stand_in.interrupt_soon();
        let error = stand_in.error();
        let asked = asked.join().expect("it does not panic");
        assert!(matches!(error, VmError::Interrupted), "{script}: {error}");
        // Sooner than it would have ended otherwise: at a cut port, that is 5 s.
        assert!(asked.elapsed() < SHORT * 2, "{script}: {:?}", asked.elapsed());
    }
}

/// A KVM that is there and does not work, in each of the ways.
#[test]
fn software_helps_where_the_kvm_does_not() {
    for fails in ["exit 1", "exec sleep 1000", "echo nonsense"] {
        let script = format!("case \"$*\" in *'-accel kvm'*) {fails} ;; esac\nhello; sleep 1000");
        let mut stand_in = StandIn::new(&script);
        stand_in.machine.accel = Accel::Auto;
        // No KVM, and nothing to say about it.
        let guest = stand_in.boot().expect("it says hello");
        assert_eq!((guest.notes(), guest.accel()), ([].as_slice(), Accel::Tcg));
        drop(guest);
        File::create(&stand_in.machine.kvm).expect("it is written");
        let guest = stand_in.boot().expect("it says hello");
        let notes: Vec<_> = guest.notes().iter().map(|note| note.0.as_str()).collect();
        let [note] = notes[..] else { panic!("{notes:?}") };
        assert!(note.starts_with("there is a KVM, but no guest comes up with it"), "{note}");
        assert_eq!(guest.accel(), Accel::Tcg);
        drop(guest);
        stand_in.is_gone();
        // Who asks for it is told.
        stand_in.machine.accel = Accel::Kvm;
        let message = stand_in.message();
        let first =
            "the guest does not come up with the KVM, --accel tcg does without it: the guest";
        assert!(message.starts_with(first), "{message}");
    }
}

/// What is missing with KVM is missing without, and a stop is a stop.
#[test]
fn no_second_try_for_what_would_fail_again() {
    let mut stand_in = StandIn::new("echo x >>\"$here/tries\"; exec sleep 1000");
    stand_in.machine.accel = Accel::Auto;
    File::create(&stand_in.machine.kvm).expect("it is written");
    let _ = stand_in.interrupt_soon();
    assert!(matches!(stand_in.error(), VmError::Interrupted));
    let tries = fs::read_to_string(stand_in.dir.path().join("tries")).unwrap_or_default();
    assert!(tries.lines().count() <= 1, "{tries}");
}

/// Something like a guest's output, and something that is nothing like it.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let record = prop_oneof![
        Just(r#"{"record":"progress","at_ns":1}"#.to_owned()),
        Just(r#"{"record":"doing","what":"x"}"#.to_owned()),
        Just(r#"{"record":"done"}"#.to_owned()),
        Just(hello().trim_end().to_owned()),
        r#"\{"record":"[a-z]{0,9}",?"[a-z_]{0,9}":[-0-9e.\["{]{0,9}\}?"#,
    ];
    let bytes = prop_oneof![
        4 => record.prop_map(|record| [record.as_bytes(), b"\n"].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    prop::collection::vec(bytes, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_it_prints_it_ends(
        said in output(), complained in output(), polite in any::<bool>(), status in 0..256,
    ) {
        let hello = if polite { "hello; " } else { "" };
        let script =
            format!("{hello}cat \"$here/complaints\" >&2; cat \"$here/said\"; exit {status}");
        let stand_in = StandIn::new(&script);
        fs::write(stand_in.dir.path().join("said"), said)?;
        fs::write(stand_in.dir.path().join("complaints"), complained)?;
        if let Ok(mut guest) = stand_in.boot() {
            while let Ok(Some(_)) = guest.next() {}
            // And again, after its end.
            let hangs = matches!(guest.next(), Err(VmError::Hangs { .. }));
            prop_assert!(!hangs);
        }
        stand_in.is_gone();
    }
}
