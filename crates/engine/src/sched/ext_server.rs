//! `rq->ext_server`: the deadline server that gives the ext class 50 ms of each second when a
//! busy fair class above it would leave it nothing (`kernel/sched/deadline.c`, `dl_server_*()`).
//!
//! It is deferrable: as long as ext tasks get their share by themselves it does nothing, and when
//! they do not it waits until the last moment of the period.

use crate::engine::Engine;
use crate::events::Event;
use crate::rq::ServerPhase;
use crate::{CpuId, Nanos};

/// `ext_server`'s runtime: 50 ms of each period.
const RUNTIME: Nanos = Nanos(50_000_000);
/// From a period's start to its zero-laxity point, the period being 1 s.
const ZERO_LAXITY: Nanos = Nanos(950_000_000);

impl Engine {
    /// `dl_server_start()`: the first ext task is enqueued.
    pub(crate) fn ext_server_start(&mut self, cpu: CpuId) {
        // With every task in the ext class nothing can keep it from running.
        if !self.switched_all && self.rq(cpu).ext_server.phase == ServerPhase::Stopped {
            self.ext_server_enter(cpu, ServerPhase::Deferred, ZERO_LAXITY);
        }
    }

    fn ext_server_enter(&mut self, cpu: CpuId, phase: ServerPhase, until: Nanos) {
        let server = &mut self.rq_mut(cpu).ext_server;
        server.phase = phase;
        server.runtime = RUNTIME;
        server.generation = server.generation.wrapping_add(1);
        let generation = server.generation;
        self.after(until, Event::ExtServer { cpu: cpu.0, generation });
    }

    /// `dl_server_stop()`.
    pub(crate) fn ext_server_stop(&mut self, cpu: CpuId) {
        let server = &mut self.rq_mut(cpu).ext_server;
        server.phase = ServerPhase::Stopped;
        server.generation = server.generation.wrapping_add(1);
    }

    /// `dl_server_update()`: ext tasks used the CPU, by themselves or through the server.
    pub(crate) fn ext_server_update(&mut self, cpu: CpuId, used: Nanos) {
        let server = &mut self.rq_mut(cpu).ext_server;
        if server.phase == ServerPhase::Stopped {
            return;
        }
        server.runtime = server.runtime - used;
        if server.runtime == Nanos::ZERO && server.phase == ServerPhase::Deferred {
            // They had their share: the next period begins.
            self.ext_server_enter(cpu, ServerPhase::Deferred, ZERO_LAXITY);
        }
    }

    pub(crate) fn ext_server_timer(&mut self, cpu: CpuId, generation: u32) {
        if self.rq(cpu).ext_server.generation != generation {
            return;
        }
        self.this_cpu = cpu;
        let waiting = self.rq(cpu).scx.nr_running > 0 && self.scx_enabled;
        match self.rq(cpu).ext_server.phase {
            ServerPhase::Deferred if waiting => {
                self.stats.ext_server_runs += 1;
                self.ext_server_enter(cpu, ServerPhase::Active, RUNTIME);
            }
            ServerPhase::Active if waiting => {
                self.ext_server_enter(cpu, ServerPhase::Deferred, ZERO_LAXITY);
            }
            _ => {
                self.ext_server_stop(cpu);
                return;
            }
        }
        self.resched_curr(cpu);
    }
}
