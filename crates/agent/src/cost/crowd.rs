//! Tasks that are there, and sleep.

use anyhow::{Result, ensure};
use scxlab_engine::program::{Instr, Pc, Span, Spawn, Start};
use scxlab_engine::{Nanos, Program};

use crate::attached::wait_for;
use crate::play::{Options, Player};
use crate::report::Report;

/// The name by which `bpf/cost.bpf.c` knows them.
const NAME: &str = "crowd";

/// So long that nobody sees its end.
const SLEEP: Nanos = Nanos::from_secs(24 * 3_600);

/// For so many at a time we wait as long as for a change of schedulers, and then say so: an
/// emulator on a busy host takes its time for thousands.
const STEP: u64 = 500;

/// Tasks that sleep, until this is dropped.
pub(super) struct Crowd(Player);

impl Crowd {
    /// So many threads of one process.
    pub(super) fn start(tasks: u32, seed: u64, report: &Report) -> Result<Self> {
        let player = Player::start(&program(tasks), seed, &Options::default())?;
        // And their parent.
        let all = u64::from(tasks) + 1;
        let mut there = 0;
        while there < all {
            there = all.min(there + STEP);
            wait_for(|| player.counts().forked >= there || player.counts().forks_failed > 0)?;
            let failed = player.counts().forks_failed;
            ensure!(failed == 0, "{failed} of {tasks} tasks cannot be created here");
            report.doing(format!("started {there} of {all} tasks"));
        }
        Ok(Self(player))
    }

    /// Ends them.
    ///
    /// # Errors
    /// They do not end.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.0.stop()?;
        Ok(())
    }
}

fn program(tasks: u32) -> Program {
    let code = vec![
        Instr::Loop { count: Some(tasks), end: Pc(2) },
        Instr::Spawn { what: Spawn::Thread, entry: Pc(3), name: 1 },
        Instr::LoopEnd { body: Pc(1) },
        Instr::Sleep(Span::exactly(SLEEP)),
        Instr::Jump(Pc(3)),
    ];
    let start = Start::new(Pc(0), 0);
    let names = ["parent", NAME].map(str::to_owned).to_vec();
    Program { code, names, start: vec![start], ..Program::default() }
}
