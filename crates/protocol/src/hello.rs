//! The agent's first word, by which the command knows one that is not its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::Kernel;

/// The agent's first word. What is in it may grow; what is there stays, under its name, so that an
/// agent of any age can be told from one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Whose agent it is. Those of before there was this leave it out.
    #[serde(default)]
    pub build: Build,
    /// The kernel that it is on.
    #[serde(flatten)]
    pub kernel: Kernel,
}

/// What the command and its agent have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The version.
    pub version: String,
    /// A number that changes whenever [`Job`](crate::Job) or [`Record`](crate::Record) does.
    pub protocol: u32,
}

impl Build {
    /// That of the program that asks.
    pub fn own() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), protocol: PROTOCOL }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version.as_str() {
            "" => f.write_str("of an unknown version"),
            version => write!(f, "of version {version}, protocol {:08x}", self.protocol),
        }
    }
}

/// The agent was built from other sources than the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherBuild {
    /// The agent's.
    pub agent: Build,
}

impl fmt::Display for OtherBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the agent, scxlab-agent, is {}, and this command is {}; `cargo xtask agent` builds the \
             agent anew (if SCXLAB_AGENT is set, it names another one)",
            self.agent,
            Build::own()
        )
    }
}

impl std::error::Error for OtherBuild {}

impl Hello {
    /// On this kernel.
    pub fn on(kernel: Kernel) -> Self {
        Self { build: Build::own(), kernel }
    }

    /// The kernel, if the agent is one's own.
    ///
    /// # Errors
    /// It is not: its records may mean something else.
    pub fn kernel(self) -> Result<Kernel, OtherBuild> {
        if self.build == Build::own() {
            Ok(self.kernel)
        } else {
            Err(OtherBuild { agent: self.build })
        }
    }
}

/// A digest of what is said, so that nobody has to remember to count it up.
const PROTOCOL: u32 = digest(&[
    include_bytes!("cost.rs"),
    include_bytes!("job.rs"),
    include_bytes!("record.rs"),
    include_bytes!("test_run.rs"),
]);

/// FNV-1a (Fowler, Noll and Vo).
const fn digest(texts: &[&[u8]]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut text = 0;
    while text < texts.len() {
        let mut at = 0;
        while at < texts[text].len() {
            hash = (hash ^ texts[text][at] as u32).wrapping_mul(0x0100_0193);
            at += 1;
        }
        text += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;

    const KERNEL: &str = r#""release":"7.2","cpus":2,"sched_ext":true,"native_tid":true"#;

    fn hello(text: &str) -> Hello {
        match serde_json::from_str(text).expect("a record") {
            Record::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_s_own_agent_is_known() {
        let text = format!(r#"{{"record":"hello",{KERNEL}}}"#);
        let ours = Record::Hello(Hello::on(hello(&text).kernel));
        let ours = serde_json::to_string(&ours).expect("a record");
        assert_eq!(hello(&ours).kernel().expect("ours").release, "7.2");
    }

    #[test]
    fn others_are_told_with_the_way_out() {
        let Build { version, protocol } = Build::own();
        for (build, says) in [
            // From before there was this.
            (String::new(), "is of an unknown version, and"),
            (format!(r#""build":{{"version":"0.0.1","protocol":{protocol}}},"#), "version 0.0.1, "),
            (format!(r#""build":{{"version":"{version}","protocol":7}},"#), "protocol 00000007, "),
            // From after it.
            (r#""new":1,"build":{"version":"9.0.0","protocol":7,"new":1},"#.to_owned(), "9.0.0, "),
        ] {
            let hello = hello(&format!(r#"{{"record":"hello",{build}{KERNEL}}}"#));
            let message = hello.kernel().expect_err("another's").to_string();
            assert!(message.contains(says) && message.contains("cargo xtask agent"), "{message}");
        }
    }

    #[test]
    fn the_digest_is_the_known_one() {
        // The authors' test vectors.
        assert_eq!(digest(&[]), 0x811c_9dc5);
        assert_eq!(digest(&[b"a"]), 0xe40c_292c);
        assert_eq!(digest(&[b"foo", b"bar"]), 0xbf9c_f968);
    }
}
