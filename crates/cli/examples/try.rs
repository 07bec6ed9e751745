use std::sync::Arc;
use scxlab_engine::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let cpus: usize = a[3].parse().unwrap();
    let w = scxlab_workload::Workload::builtin(&a[1], cpus).unwrap();
    let p = w.compile(cpus).unwrap();
    let mut c = Config::new(cpus, Arc::new(p));
    c.seed = a[4].parse().unwrap();
    if a.len() > 6 { c.check = a[6] == "check"; }
    let set: Vec<(String,String)> = a[2].split(',').skip(1).map(|s| { let (k,v)=s.split_once('=').unwrap(); (k.into(), v.into())}).collect();
    let s = scxlab_schedulers::create(a[2].split(',').next().unwrap(), &set).unwrap();
    let mut e = Engine::new(c).unwrap();
    let id = e.attach(s.clone()).unwrap();
    let t = std::time::Instant::now();
    let secs: u64 = a[5].parse().unwrap();
    for i in 0..secs*10 { e.run_until(Nanos::from_millis(100*(i+1))); if e.is_gone(id) {break} }
    let st = e.stats();
    println!("{:#?}", st);
    println!("events {} in {:?}: {:.2} M/s", st.events(), t.elapsed(), st.events() as f64/t.elapsed().as_secs_f64()/1e6);
    println!("{:?}", e.event_counters(id));
    println!("{:?}", s.counters(e.scheduler_state(id)));
    for l in e.log() { println!("log: {l}"); }
    if let Some(x) = e.exit_info(id) { println!("{:?} {} {}", x.kind, x.msg, x.at); println!("{}", x.dump); }
    for l in e.lost_tasks() { println!("LOST {} for {} : {}", l.comm, l.runnable_for, l.explanation); }
}
