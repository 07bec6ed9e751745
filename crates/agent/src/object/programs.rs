//! Programs that are run on demand, and what the maps beside them have.

use std::io::Read as _;

use anyhow::{Context as _, Result, anyhow, ensure};
use libbpf_rs::{Iter, MapCore as _, MapFlags, ProgramInput};

use super::Loaded;

impl Loaded {
    /// Runs a `syscall` program once. It may change `context`.
    ///
    /// # Errors
    /// There is none of this name, it cannot be run, or it does not return 0.
    pub fn call(&mut self, name: &str, context: &mut [u8]) -> Result<()> {
        let returned = self.run(name, context)?;
        ensure!(returned == 0, "program {name} returned {returned}");
        Ok(())
    }

    /// The same, with whatever it returns.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be run.
    pub fn run(&mut self, name: &str, context: &mut [u8]) -> Result<u32> {
        let program = self.object.progs_mut().find(|program| program.name() == name);
        let program = program.with_context(|| format!("there is no program {name}"))?;
        let context_in = (!context.is_empty()).then_some(context);
        let output = program
            .test_run(ProgramInput { context_in, ..ProgramInput::default() })
            .map_err(|err| anyhow!("program {name} cannot be run: {err}"))?;
        Ok(output.return_value)
    }

    /// Runs an iterator over all that it iterates over, and gives back what it printed.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be run.
    pub fn walk(&mut self, name: &str) -> Result<String> {
        let program = self.object.progs_mut().find(|program| program.name() == name);
        let program = program.with_context(|| format!("there is no program {name}"))?;
        let link = program.attach().map_err(|err| anyhow!("iterator {name}: {err}"))?;
        let mut iter = Iter::new(&link).map_err(|err| anyhow!("iterator {name}: {err}"))?;
        let mut text = String::new();
        iter.read_to_string(&mut text).with_context(|| format!("iterator {name}"))?;
        Ok(text)
    }

    /// Every key of a map with its value.
    pub fn entries(&self, map: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Some(map) = self.object.maps().find(|each| each.name() == map) else {
            return Vec::new();
        };
        let value = |key: &[u8]| map.lookup(key, MapFlags::ANY).ok().flatten();
        map.keys().filter_map(|key| Some((key.clone(), value(&key)?))).collect()
    }

    /// The value to a key of a map.
    pub fn value(&self, map: &str, key: &[u8]) -> Option<Vec<u8>> {
        let map = self.object.maps().find(|each| each.name() == map)?;
        map.lookup(key, MapFlags::ANY).ok().flatten()
    }
}
