//! Compiled schedulers against the engine's declarations: what loads on the kernel loads here.

use std::fs;
use std::path::{Path, PathBuf};

use scxlab_bpf::abi::{Abi, Version};
use scxlab_bpf::object::Object;
use scxlab_bpf::sched::{BpfScheduler, LoadError};

/// Objects that have been compiled here, if any.
fn compiled() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bpf");
    let files = fs::read_dir(here).into_iter().flatten();
    let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".bpf.o"));
    paths.sort();
    paths
}

#[test]
fn compiled_schedulers_load() {
    let objects = compiled();
    if objects.is_empty() {
        eprintln!("skipped: nothing is compiled; cargo xtask bpf does that");
    }
    let mut wrong = Vec::new();
    for path in &objects {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(path).expect("it can be read");
        for version in Version::ALL {
            let abi = Abi::new(version).expect("the declarations make sense");
            let mut object = match Object::parse(&bytes) {
                Ok(object) => object,
                Err(err) => {
                    wrong.push(format!("{name}: {err}"));
                    break;
                }
            };
            object.fill_enumerators(&abi).expect("its variables are there");
            let image = object.load(&abi).inspect(|image| {
                wrong.extend(image.lacking.iter().map(|what| format!("{name}, {version}: {what}")));
            });
            match image {
                // Of what an object reads without a question, nothing may be missing. What it asks
                // for first, a function with two names, say, is not reached.
                Ok(image) if version >= Version::V7_2 => {
                    let missing = image.poison.iter().filter(|p| p.text.contains("CO-RE"));
                    wrong.extend(missing.map(|p| format!("{name}, {version}: {}", p.text)));
                    // What the verifier refuses of operations, they do not have.
                    if let Err(err @ LoadError::Refused(_)) = BpfScheduler::new(image, &abi) {
                        wrong.push(format!("{name}, {version}: {err}"));
                    }
                }
                Ok(_) => {}
                Err(err) => {
                    let err = err.to_string();
                    // Cids came in 7.2.
                    if version >= Version::V7_2 || !err.contains("sched_ext_ops_cid is not found") {
                        wrong.push(format!("{name}, {version}: {err}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
