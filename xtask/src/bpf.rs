//! The schedulers for kernels: compiles `*.bpf.c` to `target/bpf/*.bpf.o`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run::cargo;

/// Where sources are.
const SOURCES: &[&str] = &["schedulers/bpf", "bpf", "bpf/claims", "bpf/tests"];
/// Where objects go, and below it all that is needed on the way.
const TARGET: &str = "target/bpf";
/// Where `--install` puts the compiler, and where it is found again.
const INSTALLED: &str = "target/bpf/python";

/// libbpf's headers that ours include, and that these include. They are in the crate `libbpf-sys`.
const LIBBPF_HEADERS: &[&str] =
    &["bpf_helpers.h", "bpf_helper_defs.h", "bpf_core_read.h", "bpf_tracing.h"];

/// The oldest clang whose code is known to be accepted by the verifiers of all our kernels. (The
/// variable `CLANG` names a compiler without a look at its version.)
const OLDEST_CLANG: u32 = 18;
/// What `--install` gets: a clang 22. With the version, as another one makes other bytes.
const ZIGLANG: &str = "ziglang==0.17.1";

/// `-mcpu=v3` for atomics with a result. No path of this machine gets into the objects, so that
/// the same compiler makes the same bytes anywhere.
const FLAGS: &[&str] = &[
    "-O2",
    "-g",
    "-mcpu=v3",
    "-Wall",
    "-Werror",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
    "-fdebug-compilation-dir=.",
];

/// A C compiler for BPF: a command, the arguments before ours, and variables that it needs.
struct Compiler {
    name: String,
    program: OsString,
    args: Vec<&'static str>,
    env: Vec<(&'static str, OsString)>,
}

/// Compiles every scheduler.
pub fn build(root: &Path, install: bool) -> Result<()> {
    let compiler = match find_compiler(root) {
        Some(compiler) => compiler,
        None if install => install_ziglang(root)?,
        None => bail!(
            "no C compiler for BPF: neither a clang >= {OLDEST_CLANG} with the target bpf \
             nor the Python package ziglang; \
             `cargo xtask bpf --install` gets the latter"
        ),
    };
    let include = root.join(TARGET).join("include/bpf");
    copy_headers(&libbpf_sources(root)?, &include)?;
    println!("compiler: {}", compiler.name);
    for source in sources(root)? {
        compile(root, &compiler, &source)?;
    }
    Ok(())
}

/// Compiles every scheduler, and runs the tests that want them compiled.
pub fn test(root: &Path, install: bool) -> Result<()> {
    build(root, install)?;
    let loader = ["test", "--package", "scxlab-bpf", "--test", "loader", "--test", "abi_objects"];
    cargo(root, &loader, &[])?;
    let engine = ["test", "--package", "scxlab", "--features", "compiled", "--test", "compiled"];
    cargo(root, &engine, &[])
}

fn compile(root: &Path, compiler: &Compiler, source: &Path) -> Result<()> {
    let object = object(source)?;
    let mut command = compiler.command();
    command
        .args(FLAGS)
        .arg(format!("-D__TARGET_ARCH_{}", kernel_arch(env::consts::ARCH)))
        .args(["-I", "bpf", "-I", "target/bpf/include", "-c"])
        .arg(source)
        .arg("-o")
        .arg(&object)
        // Relative paths, so that nothing else can get into the debug information.
        .current_dir(root);
    let status = command.status().with_context(|| format!("cannot run {}", compiler.name))?;
    ensure!(status.success(), "{} does not compile: {status}", source.display());
    println!("{}", root.join(object).display());
    Ok(())
}

/// `target/bpf/qmap.bpf.o` for `schedulers/bpf/qmap.bpf.c`.
fn object(source: &Path) -> Result<PathBuf> {
    let name = source.file_name().context("a source has a name")?;
    Ok(Path::new(TARGET).join(name).with_extension("o"))
}

/// Every `*.bpf.c`, relative to `root`.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for dir in SOURCES {
        let entries = fs::read_dir(root.join(dir)).with_context(|| format!("cannot list {dir}"))?;
        for entry in entries {
            let name = entry?.file_name();
            if name.to_str().is_some_and(|name| name.ends_with(".bpf.c")) {
                found.push(Path::new(dir).join(name));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What the kernel calls an architecture, as libbpf's headers want it.
fn kernel_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        "riscv64" => "riscv",
        "s390x" => "s390",
        "powerpc64" => "powerpc",
        other => other,
    }
}

impl Compiler {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The one in `CLANG`, a clang that is new enough, or else ziglang.
fn find_compiler(root: &Path) -> Option<Compiler> {
    if let Some(name) = env::var_os("CLANG") {
        return clang(&name.to_string_lossy(), 0);
    }
    let versioned = (OLDEST_CLANG..OLDEST_CLANG + 20).rev().map(|n| format!("clang-{n}"));
    std::iter::once("clang".to_owned())
        .chain(versioned)
        .find_map(|name| clang(&name, OLDEST_CLANG))
        .or_else(|| ziglang(None, root))
        .or_else(|| ziglang(Some(root.join(INSTALLED)), root))
}

fn clang(name: &str, oldest: u32) -> Option<Compiler> {
    let version = output(Command::new(name).arg("--version"))?;
    let targets = output(Command::new(name).arg("-print-targets"))?;
    let knows_bpf = targets.lines().any(|line| line.split_whitespace().next() == Some("bpfel"));
    (clang_major(&version)? >= oldest && knows_bpf).then(|| Compiler {
        name: version.lines().next().unwrap_or(name).to_owned(),
        program: name.into(),
        args: vec!["-target", "bpfel"],
        env: Vec::new(),
    })
}

/// 19 of `Debian clang version 19.1.7 (3~deb12u1)`.
fn clang_major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("clang version ")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The Python package, where Python finds it or in `dir`.
fn ziglang(dir: Option<PathBuf>, root: &Path) -> Option<Compiler> {
    let cache = root.join(TARGET).join("zig-cache").into_os_string();
    let mut compiler = Compiler {
        name: String::new(),
        program: "python3".into(),
        args: vec!["-m", "ziglang"],
        env: vec![("ZIG_GLOBAL_CACHE_DIR", cache.clone()), ("ZIG_LOCAL_CACHE_DIR", cache)],
    };
    if let Some(dir) = dir {
        compiler.env.push(("PYTHONPATH", dir.into_os_string()));
    }
    let version = output(compiler.command().arg("version"))?;
    compiler.name = format!("ziglang {}", version.trim());
    compiler.args.extend(["cc", "-target", "bpfel-freestanding"]);
    Some(compiler)
}

fn install_ziglang(root: &Path) -> Result<Compiler> {
    let dir = root.join(INSTALLED);
    println!(
        "installing a C compiler for BPF: python3 -m pip install --target {INSTALLED} {ZIGLANG}"
    );
    let status = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
        .arg(&dir)
        .arg(ZIGLANG)
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .stdin(Stdio::null())
        .status()
        .context("cannot run python3: apt-get install python3-pip")?;
    ensure!(status.success(), "pip failed: {status}; apt-get install python3-pip");
    ziglang(Some(dir), root).context("ziglang was installed, and does not run")
}

/// What a command writes, if it is there and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where cargo has unpacked libbpf's sources.
fn libbpf_sources(root: &Path) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", output.status);
    let metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let manifest = manifest_of(&metadata, "libbpf-sys").context("nothing uses libbpf-sys")?;
    let package = Path::new(manifest).parent().context("libbpf-sys is nowhere")?;
    Ok(package.join("libbpf/src"))
}

fn manifest_of<'a>(metadata: &'a Value, package: &str) -> Option<&'a str> {
    let packages = metadata["packages"].as_array()?;
    packages.iter().find(|it| it["name"] == package)?["manifest_path"].as_str()
}

fn copy_headers(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for header in LIBBPF_HEADERS {
        let source = from.join(header);
        fs::copy(&source, to.join(OsStr::new(header)))
            .with_context(|| format!("cannot copy {}", source.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheduler_is_found() {
        let root = env::var_os("CARGO_MANIFEST_DIR").unwrap();
        let sources = sources(Path::new(&root).parent().unwrap()).unwrap();
        for name in [
            "bpf/claims/lookup.bpf.c",
            "bpf/claims/tree.bpf.c",
            "bpf/claims/watch.bpf.c",
            "bpf/cost.bpf.c",
            "bpf/example.bpf.c",
            "schedulers/bpf/qmap.bpf.c",
            "schedulers/bpf/simple.bpf.c",
        ] {
            assert!(sources.iter().any(|source| source == Path::new(name)), "{name}: {sources:?}");
        }
    }

    #[test]
    fn an_object_is_named_for_its_source() {
        let object = object(Path::new("schedulers/bpf/qmap.bpf.c")).unwrap();
        assert_eq!(object, Path::new("target/bpf/qmap.bpf.o"));
    }

    #[test]
    fn versions_of_clang() {
        assert_eq!(clang_major("Debian clang version 19.1.7 (3~deb12u1)\nTarget: x"), Some(19));
        assert_eq!(clang_major("clang version 22.1.0"), Some(22));
        assert_eq!(clang_major("gcc (Debian 12.2.0-14+deb12u1) 12.2.0"), None);
        assert_eq!(clang_major("clang version x"), None);
    }

    #[test]
    fn a_package_is_found_in_the_metadata() {
        let text = r#"{"packages": [
            {"name": "a", "manifest_path": "/a/Cargo.toml"},
            {"name": "libbpf-sys", "manifest_path": "/b/Cargo.toml"}
        ]}"#;
        let metadata: Value = serde_json::from_str(text).unwrap();
        assert_eq!(manifest_of(&metadata, "libbpf-sys"), Some("/b/Cargo.toml"));
        assert_eq!(manifest_of(&metadata, "c"), None);
    }

    #[test]
    fn a_compiler_that_is_not_there_is_not_found() {
        assert!(clang("no-such-program-anywhere", 0).is_none());
    }
}
