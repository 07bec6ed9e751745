//! Where the fuzzers begin: what real objects have. `seeds INTO OBJECT...` writes it to
//! `INTO/object`, `INTO/btf`, `INTO/machine` and `INTO/scheduler`.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use scxlab_bpf::abi::{Abi, Version};
use scxlab_bpf::object::{Object, Target as _};
use scxlab_bpf::sched::trial;

/// No fuzzer gets far with more instructions.
const INSNS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1);
    let into = args.next().ok_or("give a directory")?;
    let put = |kind: &str, name: &str, bytes: &[u8]| {
        let dir = Path::new(&into).join(kind);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(name), bytes)
    };
    for version in Version::ALL {
        put("btf", &version.to_string(), &Abi::new(version)?.btf().to_bytes())?;
    }
    for path in args {
        let name = Path::new(&path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(&path)?;
        put("object", &name, &bytes)?;
        let object = Object::parse(&bytes)?;
        put("btf", &name, &object.btf().to_bytes())?;
        let image = object.load(&Abi::new(Version::V7_2)?)?;
        put("scheduler", &name, &trial::seed(&image))?;
        for function in &image.functions {
            let insns = &image.insns[function.start..][..function.len.min(INSNS)];
            let bytes: Vec<u8> = insns.iter().flat_map(|insn| insn.write()).collect();
            put("machine", &format!("{name}-{}", function.name), &bytes)?;
        }
    }
    Ok(())
}
