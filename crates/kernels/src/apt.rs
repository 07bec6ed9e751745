//! apt, with a configuration of its own.
//!
//! Of the machine's configuration it takes how to reach the mirror, and nothing else: no hook of
//! it runs, and nothing of the machine's apt changes. Works without root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::child::{self, Output};
use crate::error::KernelError;
use crate::progress::{Progress, Step};
use crate::spec::Release;

/// The suites that have kernels with sched_ext, beside the machine's own.
const SUITES: &[&str] = &["sid", "trixie-backports"];
/// Names that a machine's sources may have for a suite of Debian instead of its code name.
const ALIASES: &[&str] = &["stable", "testing", "unstable", "sid"];
/// With less room than this, a failure is for want of it.
const LITTLE: u64 = 16 << 20;
/// Where Debian installs the keys that sign its archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What of the machine's apt configuration says how to reach the mirror.
const REACH: &[&str] = &["Acquire::http", "Acquire::Force", "Acquire::Retries", "Acquire::Check-"];

/// What is the same everywhere. Read before the machine's own configuration, which it switches off.
const CONFIGURATION: &str = "\
Dir::Etc::main \"/dev/null\";
Dir::Etc::parts \"/dev/null\";
Dir::Etc::sourceparts \"/dev/null\";
Dir::Etc::preferences \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
Dir::State::status \"/dev/null\";
Dir::Cache::pkgcache \"\";
Dir::Cache::srcpkgcache \"\";
APT::Architecture \"amd64\";
APT::Architectures \"amd64\";
APT::Sandbox::User \"root\";
APT::Status-Fd \"1\";
APT::Update::Error-Mode \"any\";
Acquire::AllowInsecureRepositories \"false\";
Acquire::GzipIndexes \"true\";
Acquire::Languages \"none\";
";

/// A package with a kernel's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub name: String,
    pub release: Release,
    /// Another package, which has the kernel's configuration; without, this one has it.
    pub config: Option<String>,
}

/// apt with its state in one directory.
#[derive(Debug)]
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Prepares `directory` for what is to be asked.
    pub fn prepare(directory: PathBuf, progress: &mut dyn Progress) -> Result<Self, KernelError> {
        let run = |command: &mut Command, progress: &mut dyn Progress| {
            checked(command, "asking apt for the mirror", progress)
        };
        // Without --no-release-info only what has been updated is told; with it, no origin is.
        let format = "$(ORIGIN)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)";
        let targets = ["indextargets", "--format", format, "Created-By: Packages"];
        let told = run(Command::new("apt-get").args(targets), progress)?;
        let guessed =
            run(Command::new("apt-get").args(targets).arg("--no-release-info"), progress)?;
        let reach = run(Command::new("apt-config").args(["dump", "Acquire"]), progress)?;
        let code_name = code_name(&fs::read_to_string("/etc/os-release").unwrap_or_default());
        let mirror =
            Mirror::of(&told.lines, &guessed.lines, &code_name).ok_or(KernelError::NoMirror)?;

        let keyring = std::env::var_os("SCXLAB_KEYRING").map_or(KEYRING.into(), PathBuf::from);
        if !keyring.is_file() {
            return Err(KernelError::NoKeyring { path: keyring });
        }
        let apt = Self { directory };
        apt.write(&mirror.sources(&keyring), &configuration(&reach.lines))?;
        Ok(apt)
    }

    fn write(&self, sources: &str, configuration: &str) -> Result<(), KernelError> {
        for directory in ["lists/partial", "cache/archives/partial"] {
            let path = self.directory.join(directory);
            fs::create_dir_all(&path)
                .map_err(|error| KernelError::writing("the package lists", &path, &error))?;
        }
        for (path, text) in [(self.sources_list(), sources), (self.configuration(), configuration)]
        {
            fs::write(&path, text)
                .map_err(|error| KernelError::writing("the package lists", &path, &error))?;
        }
        Ok(())
    }

    fn sources_list(&self) -> PathBuf {
        self.directory.join("sources.list")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("apt.conf")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.configuration()).arg("-qq");
        // Not in the file: a path may have characters that its syntax cannot say.
        for (option, path) in [
            ("Dir::Etc::sourcelist=", self.sources_list()),
            ("Dir::State::lists=", self.directory.join("lists")),
            ("Dir::Cache=", self.directory.join("cache")),
        ] {
            let mut value = std::ffi::OsString::from(option);
            value.push(path);
            command.arg("-o").arg(value);
        }
        command
    }

    /// Gets the lists anew, and verifies them. What could not be had is told, and no reason to give
    /// up: a mirror may lack a suite.
    pub fn update(&self, progress: &mut dyn Progress) -> Result<Output, KernelError> {
        let output = child::run(self.command("apt-get").arg("update"), &Step::Lists, progress)?;
        if full(&output, &self.directory) {
            let path = self.directory.clone();
            return Err(KernelError::NoSpace { what: "the package lists", path });
        }
        Ok(output)
    }

    /// The kernels that the lists have, newest first.
    pub fn packages(&self, progress: &mut dyn Progress) -> Result<Vec<Package>, KernelError> {
        let mut command = self.command("apt-cache");
        command.args(["pkgnames", "linux-"]);
        Ok(choose(&checked(&mut command, "reading the package lists", progress)?.lines))
    }

    /// Downloads a package into a directory. apt verifies it.
    pub fn download(
        &self,
        package: &str,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), KernelError> {
        let mut command = self.command("apt-get");
        command.args(["download", package]).current_dir(into);
        let step = Step::Download { package: package.to_owned() };
        let output = child::run(&mut command, &step, progress)?;
        if full(&output, into) {
            return Err(KernelError::NoSpace { what: "the package", path: into.to_owned() });
        }
        require(output, &step.to_string()).map(drop)
    }
}

/// Whether a command failed for want of room in `directory`. apt does not always say so.
fn full(output: &Output, directory: &Path) -> bool {
    !output.success && (output.no_space() || !cache::has_room(directory, LITTLE))
}

/// Runs a command that has no progress of its own and must go well.
fn checked(
    command: &mut Command,
    what: &str,
    progress: &mut dyn Progress,
) -> Result<Output, KernelError> {
    require(child::run(command, &Step::Lists, progress)?, what)
}

fn require(output: Output, step: &str) -> Result<Output, KernelError> {
    if output.success {
        return Ok(output);
    }
    Err(KernelError::FetchFailed { step: step.to_owned(), complaint: output.complaint() })
}

/// Debian's mirror as the machine has it.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    uri: String,
    /// The machine's own suites that the mirror has.
    suites: BTreeSet<String>,
}

impl Mirror {
    /// The one of the index targets, lines of `ORIGIN|RELEASE|COMPONENT|URI`.
    fn of(told: &[String], guessed: &[String], code_name: &str) -> Option<Self> {
        let targets = |lines| Target::parse_all(lines).filter(|target| target.component == "main");
        let debian = || targets(told).filter(|target| target.origin == "Debian");
        let named = || targets(guessed).filter(|target| target.release == code_name);
        let aliased = || targets(guessed).filter(|target| ALIASES.contains(&target.release));
        // That of security updates has nothing else.
        let uri = debian()
            .find(|target| !target.release.ends_with("-security"))
            .or_else(|| named().next())
            .or_else(|| aliased().next())?
            .uri;
        let own = targets(guessed).filter(|target| target.uri == uri);
        let suites = own.map(|target| target.release.to_owned()).collect();
        Some(Self { uri: uri.to_owned(), suites })
    }

    /// What apt is to look at, and how to verify it.
    fn sources(&self, keyring: &Path) -> String {
        let extra = SUITES.iter().copied().filter(|suite| !self.suites.contains(*suite));
        self.suites
            .iter()
            .map(String::as_str)
            .chain(extra)
            .map(|suite| {
                format!(
                    "deb [arch=amd64 target=Packages lang=none signed-by={}] {} {suite} main\n",
                    keyring.display(),
                    self.uri
                )
            })
            .collect()
    }
}

struct Target<'a> {
    origin: &'a str,
    release: &'a str,
    component: &'a str,
    uri: &'a str,
}

impl<'a> Target<'a> {
    fn parse_all(lines: &'a [String]) -> impl Iterator<Item = Self> {
        lines.iter().filter_map(|line| {
            let mut fields = line.splitn(4, '|');
            let [origin, release, component] = [fields.next()?, fields.next()?, fields.next()?];
            Some(Self { origin, release, component, uri: fields.next()? })
        })
    }
}

/// `VERSION_CODENAME` of Debian's os-release; nothing on another system.
fn code_name(os_release: &str) -> String {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    if value("ID") == "debian" { value("VERSION_CODENAME") } else { String::new() }
}

fn configuration(reach: &[String]) -> String {
    let mut text = String::from(CONFIGURATION);
    for line in reach.iter().filter(|line| REACH.iter().any(|prefix| line.starts_with(prefix))) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The packages with images of cloud kernels, newest first, one for each release: cloud kernels
/// are small, and have all built in that a VM without disks needs.
fn choose(names: &[String]) -> Vec<Package> {
    // The image moved from linux-image-* to linux-binary-* in 6.19; the former then depends on it.
    let kinds = [
        ("linux-binary-", ""),
        ("linux-image-", ""),
        ("linux-binary-unsigned-", ""),
        ("linux-image-", "-unsigned"),
    ];
    let mut packages = Vec::new();
    for (rank, (prefix, suffix)) in kinds.into_iter().enumerate() {
        for name in names {
            let Some(release) =
                name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix))
            else {
                continue;
            };
            if release.ends_with("-cloud-amd64")
                && let Some(release) = Release::new(release)
            {
                // The configuration moved with it.
                let config = format!("linux-base-{}", release.as_str());
                let config = names.contains(&config).then_some(config);
                packages.push((rank, Package { name: name.clone(), release, config }));
            }
        }
    }
    packages.sort_by(|(a_rank, a), (b_rank, b)| {
        b.release.cmp(&a.release).then_with(|| a_rank.cmp(b_rank))
    });
    packages.dedup_by(|(_, a), (_, b)| a.release == b.release);
    packages.into_iter().map(|(_, package)| package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn the_package_with_the_image_is_chosen() {
        let names = lines(&[
            "linux-image-cloud-amd64",
            "linux-image-6.18.9+deb13-cloud-amd64",
            "linux-image-7.2.9+deb13-cloud-amd64",
            "linux-image-7.2.13+deb14-cloud-amd64-dbg",
            "linux-binary-unsigned-7.2.13+deb14-cloud-amd64",
            "linux-image-7.2.13+deb14-cloud-amd64",
            "linux-binary-7.2.13+deb14-cloud-amd64",
            "linux-binary-7.2.13+deb14-amd64",
            "linux-base-7.2.13+deb14-cloud-amd64",
            "linux-headers-7.2.13+deb14-cloud-amd64",
            "linux-binary-unsigned-7.4.1+deb14-cloud-amd64",
            "linux-image-6.12.3-cloud-amd64-unsigned",
        ]);
        let packages = choose(&names);
        let config = packages.iter().find_map(|package| package.config.as_deref());
        assert_eq!(config, Some("linux-base-7.2.13+deb14-cloud-amd64"));
        assert_eq!(packages.iter().filter(|package| package.config.is_some()).count(), 1);
        let chosen: Vec<_> = packages.into_iter().map(|package| package.name).collect();
        assert_eq!(
            chosen,
            [
                "linux-binary-unsigned-7.4.1+deb14-cloud-amd64",
                "linux-binary-7.2.13+deb14-cloud-amd64",
                "linux-image-7.2.9+deb13-cloud-amd64",
                "linux-image-6.18.9+deb13-cloud-amd64",
                "linux-image-6.12.3-cloud-amd64-unsigned",
            ]
        );
    }

    #[test]
    fn the_mirror_is_the_machines_own() {
        let told = lines(&[
            "Tool|bookworm-tool|main|https://tool.example/apt/",
            "Debian|bookworm-security|main|http://mirror.example/debian-security/",
            "Debian|bookworm|contrib|http://mirror.example/debian/",
            "Debian|bookworm|main|http://mirror.example/debian/",
            "Debian|bookworm-updates|main|http://mirror.example/debian/",
        ]);
        let guessed: Vec<_> = told
            .iter()
            .map(|line| format!("$(ORIGIN)|{}", line.split_once('|').expect("fields").1))
            .collect();
        for told in [told, Vec::new()] {
            let mirror = Mirror::of(&told, &guessed, "bookworm").expect("a mirror");
            assert_eq!(mirror.uri, "http://mirror.example/debian/");
            let sources = mirror.sources(Path::new("/k.gpg"));
            let suites: Vec<_> =
                sources.lines().filter_map(|line| line.split(' ').nth(6)).collect();
            assert_eq!(suites, ["bookworm", "bookworm-updates", "sid", "trixie-backports"]);
            assert!(sources.lines().all(|line| line.contains("signed-by=/k.gpg]")), "{sources}");
        }
        assert_eq!(Mirror::of(&[], &guessed[..1], "bookworm"), None);
        assert_eq!(Mirror::of(&[], &lines(&["", "a|b"]), ""), None);
        let sid = lines(&["$(ORIGIN)|sid|main|http://mirror.example/debian/"]);
        let sources = Mirror::of(&[], &sid, "forky").expect("a mirror").sources(Path::new("/k"));
        assert_eq!(sources.lines().count(), 2, "{sources}");
    }

    #[test]
    fn only_debian_has_debians_suites() {
        assert_eq!(code_name("ID=debian\nVERSION_CODENAME=trixie\n"), "trixie");
        assert_eq!(code_name("ID=\"debian\"\nVERSION_CODENAME=\"forky\"\n"), "forky");
        assert_eq!(code_name("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n"), "");
        assert_eq!(code_name(""), "");
    }

    #[test]
    fn the_way_to_the_mirror_is_kept_and_nothing_that_weakens_it() {
        let text = configuration(&lines(&[
            "Acquire::http::Proxy \"http://proxy.example:3128\";",
            "Acquire::https::CAInfo \"/etc/ca.pem\";",
            "Acquire::Check-Valid-Until \"false\";",
            "Acquire::AllowInsecureRepositories \"1\";",
            "Acquire::IndexTargets::deb::DEP-11 \"\";",
        ]));
        assert!(text.contains("Proxy") && text.contains("CAInfo") && text.contains("Valid-Until"));
        assert!(!text.contains("Repositories \"1\"") && !text.contains("DEP-11"), "{text}");
    }
}
