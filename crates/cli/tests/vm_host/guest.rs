//! The first process of the VM: sets up what a host has, and runs one case after the other.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{catch_unwind, set_hook};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use scxlab_protocol::{Hello, Kernel, Record};

use super::cases::CASES;
use super::{CHOSEN, COMMAND};

/// What is said of a case that is as it should be.
pub const FINE: &str = "ok";

const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
];

/// Never returns: that would be a panic of the kernel.
pub fn main() -> ! {
    let run = catch_unwind(|| {
        for (kind, place) in MOUNTS {
            fs::create_dir_all(place).expect("a mount point");
            mount(Some(*kind), *place, Some(*kind), MsFlags::empty(), None::<&str>)
                .unwrap_or_else(|err| panic!("{kind}: {err}"));
        }
        for program in [COMMAND, "/bin/scxlab-agent"] {
            fs::set_permissions(program, Permissions::from_mode(0o755)).expect("it is there");
        }
        // A user's temporary files are there too.
        fs::set_permissions("/tmp", Permissions::from_mode(0o1777)).expect("it is there");
        run();
    });
    drop(run);
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn run() {
    static WHY: Mutex<String> = Mutex::new(String::new());
    let mut port = port();
    let mut say = |record: &Record| {
        let line = serde_json::to_string(record).expect("a record is JSON");
        writeln!(port, "{line}").expect("somebody listens");
    };
    say(&Record::Hello(Hello::on(Kernel {
        release: String::new(),
        cpus: 2,
        sched_ext: true,
        native_tid: true,
    })));
    set_hook(Box::new(|info| {
        *WHY.lock().expect("nobody panics here") = info.to_string();
    }));
    let chosen = fs::read_to_string(CHOSEN).expect("it is there");
    let before = Left::look();
    for name in chosen.lines() {
        let (name, case) = CASES.iter().find(|case| case.0 == name).expect("it is a case");
        say(&Record::Doing { what: (*name).to_owned() });
        let start = Instant::now();
        let done = catch_unwind(|| {
            case();
            before.is_all_there_is(Duration::ZERO);
        });
        println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
        let text = match done {
            Ok(()) => FINE.to_owned(),
            Err(_) => WHY.lock().expect("nobody panics here").clone(),
        };
        say(&Record::Note { text });
    }
    say(&Record::Done);
    // Whoever has read that ends the machine.
    thread::sleep(Duration::from_secs(30));
}

/// The port to the test.
fn port() -> File {
    for _ in 0..200 {
        for port in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
            if name.trim_end() == "scxlab" {
                let device = Path::new("/dev").join(port.file_name());
                return OpenOptions::new().write(true).open(device).expect("it can be opened");
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("there is no port");
}

/// What a run may leave behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    sched_ext: String,
    pid_max: String,
    dump_event: String,
    processes: Vec<String>,
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Left {
    /// What there is now. What has ended is buried first, as on every host.
    pub fn look() -> Self {
        while matches!(
            waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
            Ok(status) if status != WaitStatus::StillAlive
        ) {}
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim_end().to_owned();
        let files = ["/tmp", "/run", "/dev/shm", "/sys/fs/bpf", "/sys/kernel/tracing/instances"];
        Self {
            sched_ext: state(),
            pid_max: read("/proc/sys/kernel/pid_max"),
            dump_event: read("/sys/kernel/tracing/events/sched_ext/sched_ext_dump/enable"),
            processes: processes(),
            directories: below(Path::new("/sys/fs/cgroup"))
                .into_iter()
                .filter(|path| path.is_dir())
                .collect(),
            files: files.iter().flat_map(|dir| below(Path::new(dir))).collect(),
        }
    }

    /// Fails if there is more than this, so long after.
    pub fn is_all_there_is(&self, within: Duration) {
        let start = Instant::now();
        let mut now = Self::look();
        while now != *self && start.elapsed() < within {
            thread::sleep(Duration::from_millis(10));
            now = Self::look();
        }
        assert_eq!(&now, self, "left (left) and right (before)");
    }
}

/// sched_ext's state.
pub fn state() -> String {
    fs::read_to_string("/sys/kernel/sched_ext/state").expect("it is there").trim_end().to_owned()
}

/// The processes that are not the kernel's, and not this one: pid, name and state.
pub fn processes() -> Vec<String> {
    let all = fs::read_dir("/proc").expect("it is there").flatten();
    let process = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(") ")?;
        let parent = rest.split(' ').nth(1)?;
        (pid > 2 && parent != "2").then(|| format!("{name}) {rest:.1}"))
    };
    all.filter_map(process).collect()
}

/// All files and directories below one.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // What is a link may lead out of here.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
        found.push(entry.path());
    }
    found.sort();
    found
}
