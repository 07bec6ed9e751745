//! `scxlab kernels`, offline: with images that tests make, and with stand-ins for apt and dpkg.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scxlab_kernels::synthetic;
use serde_json::Value;
use tempfile::TempDir;

/// No machine has this one installed.
const RELEASE: &str = "99.1.2-cloud-amd64";
const NATIVE: &[&str] = &["sched_ext_ops", "scx_bpf_tid_to_task"];

/// A user with an empty cache, and a machine with what stands for apt.
struct Machine {
    home: TempDir,
}

/// Answers as apt-get does. `$FAKE` says what goes wrong.
const APT_GET: &str = r#"#!/bin/sh
case " $* " in
*" indextargets "*)
    [ "$FAKE" = no-mirror ] || echo 'Debian|bookworm|main|http://mirror.invalid/debian/' ;;
*" update "*)
    case "$FAKE" in
    unsigned) echo 'E: The repository is not signed.' >&2; exit 100 ;;
    offline) echo 'E: Could not connect to the mirror' >&2; exit 100 ;;
    full-lists) echo 'E: Write error - write (28: No space left on device)' >&2; exit 100 ;;
    esac ;;
*" download "*)
    echo dlstatus:1:50.0:Retrieving file 1 of 1
    case "$FAKE" in
    hang) echo half > kernel.deb; exec sleep 60 ;;
    full) echo half > kernel.deb
        echo 'E: Failed to fetch: No space left on device' >&2; exit 100 ;;
    mismatch) echo half > kernel.deb
        echo 'E: Hash Sum mismatch' >&2; exit 100 ;;
    esac
    case " $* " in
    *" linux-base-"*) echo CONFIG_HZ=250 > base.deb ;;
    *) cp "$FAKE_IMAGE" kernel.deb ;;
    esac ;;
esac
"#;
const APT_CACHE: &str = r#"#!/bin/sh
[ "$FAKE" = unsigned ] || [ "$FAKE" = offline ] || {
    echo linux-binary-99.1.2-cloud-amd64
    echo linux-base-99.1.2-cloud-amd64
}
echo unrelated
"#;
const DPKG_DEB: &str = r#"#!/bin/sh
if [ "$FAKE" = full-unpacked ]; then
    echo 'dpkg-deb: error: failed to write: No space left on device' >&2; exit 2
fi
case "$2" in
*/base.deb) into=usr/lib/modules/99.1.2-cloud-amd64/config ;;
*) into=boot/vmlinuz-99.1.2-cloud-amd64 ;;
esac
mkdir -p "$3/$(dirname "$into")" && cp "$2" "$3/$into"
"#;

impl Machine {
    fn new() -> Self {
        let machine = Self { home: tempfile::tempdir().expect("a directory") };
        fs::create_dir(machine.path("bin")).expect("created");
        for (name, script) in [
            ("apt-get", APT_GET),
            ("apt-cache", APT_CACHE),
            ("apt-config", "#!/bin/sh\n"),
            ("dpkg-deb", DPKG_DEB),
        ] {
            let path = machine.path("bin").join(name);
            fs::write(&path, script).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        }
        fs::write(machine.path("keyring.gpg"), "keys").expect("written");
        machine.offer(&synthetic::kernel(RELEASE, NATIVE));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file, and gives its path as text.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).expect("written");
        self.path(name).to_str().expect("text").to_owned()
    }

    /// What the mirror's package has in it.
    fn offer(&self, image: &[u8]) {
        self.file("offered", image);
    }

    fn command(&self, fault: &str, args: &[&str]) -> Command {
        let path = std::env::var("PATH").expect("a PATH");
        let mut command = Command::new(env!("CARGO_BIN_EXE_scxlab"));
        command
            .arg("kernels")
            .args(args)
            .stdin(Stdio::null())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("SCXLAB_CACHE", self.path("cache"))
            .env("SCXLAB_KEYRING", self.path("keyring.gpg"))
            .env("FAKE", fault)
            .env("FAKE_IMAGE", self.path("offered"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command("", args).output().expect("the command starts")
    }

    fn listed(&self) -> Value {
        let output = self.run(&["list", "--json", "-"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("standard output is JSON, alone")
    }

    /// The kernel that tests make, as it is listed.
    fn ours(&self) -> Option<Value> {
        let listed = self.listed();
        let kernels = listed["kernels"].as_array().expect("a list");
        kernels.iter().find(|kernel| kernel["release"] == RELEASE).cloned()
    }

    /// The files below the cache.
    fn files_left(&self) -> Vec<String> {
        let cache = self.path("cache");
        let mut files = Vec::new();
        let mut directories = vec![cache.clone()];
        while let Some(directory) = directories.pop() {
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for path in entries.map(|entry| entry.expect("an entry").path()) {
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let path = path.strip_prefix(&cache).expect("below it");
                    files.push(path.display().to_string());
                }
            }
        }
        files.sort_unstable();
        files
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

/// It refused with `status` and one message that has all `parts`.
fn refused(output: &Output, status: i32, parts: &[&str]) {
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{err}");
    assert!(output.stdout.is_empty());
    assert!(err.starts_with("scxlab: ") && err.lines().count() == 1, "{err}");
    for part in parts {
        assert!(err.contains(part), "no `{part}` in: {err}");
    }
}

/// A kernel in the cache.
const KERNEL: &[&str] =
    &["kernels/99.1.2-cloud-amd64/kernel.json", "kernels/99.1.2-cloud-amd64/vmlinuz"];
/// What stays after a fetch that failed: what apt was told, and no kernel.
const NO_KERNEL: &[&str] = &["apt/apt.conf", "apt/sources.list", "lock"];

#[test]
fn an_added_kernel_is_listed_with_what_it_can_do() {
    let machine = Machine::new();
    let image = machine.file("bzImage", &synthetic::kernel(RELEASE, NATIVE));
    let output = machine.run(&["add", &image]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("99.1.2-cloud-amd64: sched_ext built in, native tid"));

    let kernel = machine.ours().expect("listed");
    assert_eq!(kernel["sched_ext"], true);
    assert_eq!(kernel["native_tid"], true);
    assert_eq!(kernel["source"], "cache");
    assert!(kernel["image"].as_str().expect("a path").ends_with(KERNEL[1]), "{kernel}");
    assert_eq!(machine.files_left(), [KERNEL[0], KERNEL[1], "lock"]);

    let list = text(&machine.run(&[]).stdout);
    let line = list.lines().find(|line| line.starts_with(RELEASE)).expect("listed");
    assert!(line.contains("built in") && line.contains("native"), "{line}");

    // One without the tid, of the same release, takes its place.
    fs::write(&image, synthetic::kernel(RELEASE, &["sched_ext_ops"])).expect("written");
    assert!(text(&machine.run(&["add", &image]).stdout).contains("no native tid"));
    assert_eq!(machine.ours().expect("listed")["native_tid"], false);
}

#[test]
fn the_list_goes_to_a_file() {
    let machine = Machine::new();
    let file = machine.file("list.json", b"");
    let output = machine.run(&["list", "--json", &file]);
    assert_eq!(output.status.code(), Some(0));
    assert!(!output.stdout.is_empty());
    let listed: Value = serde_json::from_slice(&fs::read(file).expect("read")).expect("JSON");
    assert!(listed["kernels"].is_array() && listed["broken"].is_array());
}

#[test]
fn images_that_cannot_be_used_are_refused() {
    let machine = Machine::new();
    let sound = synthetic::kernel(RELEASE, NATIVE);
    let mut damaged = sound.clone();
    let middle = sound.len() - 100;
    damaged[middle] ^= 0xff;
    for (bytes, parts) in [
        (&b""[..], &["is empty"][..]),
        (b"hello", &["is no kernel image"]),
        (&sound[..sound.len() - 1], &["is truncated"]),
        (&sound[..2600], &["is truncated: it has 2600 bytes of"]),
        (&damaged, &["is damaged", "gzip"]),
        (
            &synthetic::kernel("99.1.2", &["task_struct"]),
            &["Linux 99.1.2 is built without sched_ext", "CONFIG_SCHED_CLASS_EXT", "fetch 7.2"],
        ),
        (&synthetic::bzimage("99.1.2", b"BZh91AY"), &["bzip2", "CONFIG_KERNEL_ZSTD"]),
    ] {
        let image = machine.file("bzImage", bytes);
        let output = machine.run(&["add", &image]);
        refused(&output, 2, &[&["bzImage"], parts].concat());
        assert!(!machine.path("cache").exists());
    }
    refused(&machine.run(&["add", "/no/such/image"]), 2, &["/no/such/image", "No such file"]);
    refused(&machine.run(&["add", "/"]), 2, &["directory"]);
}

#[test]
fn a_kernel_that_is_damaged_later_is_listed_as_such() {
    let machine = Machine::new();
    let image = machine.file("bzImage", &synthetic::kernel(RELEASE, NATIVE));
    machine.run(&["add", &image]);
    let cached = machine.path("cache/kernels").join(RELEASE).join("vmlinuz");
    let mut bytes = fs::read(&cached).expect("read");
    bytes[1000] ^= 1;
    fs::write(&cached, bytes).expect("written");
    assert_eq!(machine.ours(), None);
    let broken = machine.listed()["broken"].to_string();
    assert!(broken.contains("kernels fetch 99.1.2-cloud-amd64"), "{broken}");
    let list = text(&machine.run(&["list"]).stdout);
    assert!(list.contains("cannot be used: kernel 99.1.2-cloud-amd64 in the cache"), "{list}");
}

#[test]
fn a_kernel_is_fetched_once() {
    let machine = Machine::new();
    let output = machine.run(&["fetch", "99.1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    assert_eq!(machine.ours().expect("listed")["native_tid"], true);
    let config = "kernels/99.1.2-cloud-amd64/config";
    let left = [&NO_KERNEL[..2], &[config], KERNEL, &NO_KERNEL[2..]].concat();
    assert_eq!(machine.files_left(), left);
    let kernel = machine.ours().expect("listed");
    assert!(kernel["config"].as_str().expect("a path").ends_with(config), "{kernel}");

    // It is there: a download would fail now.
    let again = machine.command("full", &["fetch", "99"]).output().expect("the command starts");
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));

    // Damaged, it is fetched anew.
    let cached = machine.path("cache/kernels").join(RELEASE).join("vmlinuz");
    fs::write(&cached, "junk").expect("written");
    assert_eq!(machine.run(&["fetch", "99"]).status.code(), Some(0));
    assert!(machine.ours().is_some());
}

#[test]
fn a_fetch_that_fails_says_why_and_leaves_nothing() {
    for (fault, parts) in [
        ("full-lists", &["no space left for the package lists", "SCXLAB_CACHE"][..]),
        ("full", &["no space left for the package in", "make room", "SCXLAB_CACHE"]),
        ("full-unpacked", &["no space left for the unpacked package"]),
        ("mismatch", &["downloading linux-binary-99.1.2", "Hash Sum mismatch", "run the same"]),
        ("unsigned", &["not signed", "kernels add FILE"]),
        ("offline", &["Could not connect", "kernels add FILE"]),
        ("no-mirror", &["no mirror of Debian", "kernels add FILE"]),
    ] {
        let machine = Machine::new();
        let output = machine.command(fault, &["fetch", "99.1"]).output().expect("it starts");
        refused(&output, 3, parts);
        let expected = if fault == "no-mirror" { &NO_KERNEL[2..] } else { NO_KERNEL };
        assert_eq!(machine.files_left(), expected, "{fault}");
        // Whatever it was, it works once it is mended.
        assert_eq!(machine.run(&["fetch", "99.1"]).status.code(), Some(0), "{fault}");
    }
}

#[test]
fn a_package_with_a_bad_image_is_found_before_boot() {
    let sound = synthetic::kernel(RELEASE, NATIVE);
    for (image, part) in [
        (&sound[..sound.len() / 2], "its image is truncated"),
        (b"", "its image is empty"),
        (&synthetic::kernel(RELEASE, &[]), "without sched_ext, and was not kept"),
        (&synthetic::kernel("99.1.3", NATIVE), "its image is that of 99.1.3"),
    ] {
        let machine = Machine::new();
        machine.offer(image);
        let output = machine.run(&["fetch", "99.1"]);
        refused(&output, 3, &["linux-binary-99.1.2-cloud-amd64", part]);
        assert_eq!(machine.files_left(), NO_KERNEL);
    }
}

#[test]
fn what_the_mirror_lacks_is_said_with_what_it_has() {
    let machine = Machine::new();
    refused(&machine.run(&["fetch", "98"]), 3, &["no kernel 98 (it has 99.1)", "kernels add FILE"]);
    refused(&machine.run(&["fetch", "./bzImage"]), 2, &["`./bzImage` is no version"]);
    refused(&machine.run(&["fetch", ""]), 2, &["`` is no version"]);
}

#[test]
fn without_apt_or_keys_it_says_how_to_provide_an_image() {
    let machine = Machine::new();
    let empty = machine.path("empty");
    fs::create_dir(&empty).expect("created");
    let output = machine.command("", &["fetch", "99"]).env("PATH", &empty).output();
    let parts = &["no apt-get", "bzImage", "CONFIG_SCHED_CLASS_EXT=y", "kernels add FILE"];
    refused(&output.expect("it starts"), 3, parts);

    let output = machine.command("", &["fetch", "99"]).env("SCXLAB_KEYRING", "/no/keys").output();
    refused(&output.expect("it starts"), 3, &["/no/keys", "debian-archive-keyring"]);
    assert_eq!(machine.files_left(), ["lock"]);

    let output = machine
        .command("", &["fetch", "99"])
        .env_remove("SCXLAB_CACHE")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("HOME")
        .output();
    refused(&output.expect("it starts"), 3, &["SCXLAB_CACHE", "HOME"]);
}

#[test]
fn an_interrupted_fetch_tidies_up() {
    let machine = Machine::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let child = machine
            .command("hang", &["fetch", "99.1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let half = machine.path("cache/partial/linux-binary-99.1.2-cloud-amd64/kernel.deb");
        let started = Instant::now();
        while !half.exists() {
            assert!(started.elapsed() < Duration::from_secs(30), "it does not download");
            thread::sleep(Duration::from_millis(10));
        }
        let pid = i32::try_from(child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("sent");
        let output = child.wait_with_output().expect("it ends");
        refused(&output, 3, &["interrupted", "run the same command again"]);
        assert_eq!(machine.files_left(), NO_KERNEL);
    }
    // What a kill leaves is removed by the next one.
    fs::create_dir_all(machine.path("cache/partial/unpacked/boot")).expect("created");
    assert_eq!(machine.run(&["fetch", "99.1"]).status.code(), Some(0));
    assert!(!machine.path("cache/partial").exists());
}

/// Needs the network, apt with a mirror of Debian, and its keyring.
#[test]
#[ignore = "downloads 14 MB: needs apt, a mirror of Debian and its keyring"]
fn a_stock_kernel_is_fetched_and_understood() {
    let home = tempfile::tempdir().expect("a directory");
    let scxlab = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_scxlab"))
            .args(args)
            .env("SCXLAB_CACHE", home.path())
            .output()
            .expect("the command starts")
    };
    let output = scxlab(&["kernels", "fetch", "7.2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = scxlab(&["kernels", "list", "--json", "-"]);
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let kernels = listed["kernels"].as_array().expect("a list");
    let cached: Vec<_> = kernels.iter().filter(|kernel| kernel["source"] == "cache").collect();
    assert_eq!(cached.len(), 1);
    assert!(cached[0]["release"].as_str().expect("a text").starts_with("7.2."));
    assert_eq!(cached[0]["sched_ext"], true);
    assert_eq!(cached[0]["native_tid"], true);
    assert!(!home.path().join("partial").exists());
}
