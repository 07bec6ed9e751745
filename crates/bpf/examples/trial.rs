use std::sync::Arc;
use scxlab_bpf::{btf::Btf, object::{Kernel, Object, version_code}, sched::BpfScheduler};
use scxlab_engine::{Config, Engine, Nanos};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let btf = Btf::parse(&std::fs::read(&args[1]).unwrap()).unwrap();
    let kernel = Kernel { btf, version: version_code(7, 2, 13), config: Default::default() };
    let object = Object::parse(&std::fs::read(&args[2]).unwrap()).unwrap();
    let image = object.load(&kernel).unwrap();
    let sched = match BpfScheduler::new(image, &kernel.btf) { Ok(s) => s, Err(e) => { println!("{e}"); return; } };
    let workload = scxlab_workload::Workload::builtin(&args[3], 4).unwrap();
    let program = workload.compile(4).unwrap();
    let mut engine = Engine::new(Config::new(4, Arc::new(program))).unwrap();
    let id = engine.attach(Arc::new(sched)).unwrap();
    let t = std::time::Instant::now();
    engine.run_until(Nanos::from_secs(5));
    println!("{:?} attached={} {:?} in {:?}", engine.stats(), engine.is_attached(id), engine.exit_info(id).map(|i| (&i.msg, i.kind)), t.elapsed());
}
