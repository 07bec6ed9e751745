//! The example files of rt-app's tutorial, if they are at hand.

use std::path::PathBuf;

use scxlab_workload::Workload;

#[test]
fn the_tutorials_examples_compile() {
    let directory =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/rt-app-tutorial"));
    let Ok(entries) = std::fs::read_dir(&directory) else {
        println!("skipped: the tutorial's files are not here");
        return;
    };
    let mut read = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let workload = Workload::parse(&name, &text).unwrap_or_else(|e| panic!("{e}"));
        let program = workload.compile(8).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(program.check(), Ok(()), "{name}");
        read += 1;
    }
    println!("{read} files");
    assert!(read > 0);
}
