//! Which CPUs share what, and the cids that follow from it.

use crate::{Cid, CpuId, Cpumask};

/// The machine's topology: one node, caches, cores and their threads.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    cpus: usize,
    cores: usize,
    pub smt: usize,
    pub llcs: usize,
    cpu_to_cid: Vec<Cid>,
    cid_to_cpu: Vec<CpuId>,
    /// A scheduler gave the CPUs their cids, which say nothing of the topology.
    overridden: bool,
}

impl Topology {
    pub fn new(cpus: usize, smt: usize, llcs: usize) -> Self {
        let cores = cpus / smt;
        // scx_cid_init(): cpus of a core are neighbours, then cores of a cache.
        let cid_to_cpu: Vec<_> = (0..cores)
            .flat_map(|core| (0..smt).map(move |thread| CpuId((core + thread * cores) as u32)))
            .collect();
        let mut cpu_to_cid = vec![Cid(0); cpus];
        for (cid, cpu) in cid_to_cpu.iter().enumerate() {
            cpu_to_cid[cpu.index()] = Cid(cid as u32);
        }
        Self { cpus, cores, smt, llcs, cpu_to_cid, cid_to_cpu, overridden: false }
    }

    pub fn cid(&self, cpu: CpuId) -> Cid {
        self.cpu_to_cid[cpu.index()]
    }

    pub fn cpu(&self, cid: Cid) -> Option<CpuId> {
        self.cid_to_cpu.get(cid.index()).copied()
    }

    /// The cids that follow from the topology again.
    pub fn reset_cids(&mut self) {
        if self.overridden {
            *self = Self::new(self.cpus, self.smt, self.llcs);
        }
    }

    /// Other cids for all CPUs, by CPU: each of `0..nr` once.
    pub fn override_cids(&mut self, cids: &[i32]) -> Result<(), String> {
        self.overridden = true;
        let mut seen = vec![false; self.cpus];
        for (cpu, &cid) in cids.iter().enumerate().take(self.cpus) {
            let at = usize::try_from(cid).ok().filter(|&at| at < self.cpus);
            let at = at.ok_or_else(|| format!("invalid cid {cid}"))?;
            if std::mem::replace(&mut seen[at], true) {
                return Err(format!("cid {cid} assigned to multiple cpus"));
            }
            self.cpu_to_cid[cpu] = Cid(at as u32);
            self.cid_to_cpu[at] = CpuId(cpu as u32);
        }
        Ok(())
    }

    /// The first cid of the core, cache and node of a cid, each followed by its number.
    pub fn cid_topo(&self, cid: Cid) -> [i32; 6] {
        if self.overridden {
            return [-1; 6];
        }
        let (smt, per_llc) = (self.smt, self.cores / self.llcs * self.smt);
        let (core, llc) = (cid.index() / smt, cid.index() / per_llc);
        [core * smt, core, llc * per_llc, llc, 0, 0].map(|n| n as i32)
    }

    pub fn all(&self) -> Cpumask {
        Cpumask::first_n(self.cpus)
    }

    /// `cpu_smt_mask()`.
    pub fn siblings(&self, cpu: CpuId) -> impl Iterator<Item = CpuId> + use<> {
        let (core, cores) = (cpu.index() % self.cores, self.cores);
        (0..self.smt).map(move |thread| CpuId((core + thread * cores) as u32))
    }

    /// The CPUs that share a last-level cache with `cpu`.
    pub fn llc(&self, cpu: CpuId) -> Cpumask {
        let per_llc = self.cores / self.llcs;
        let llc = cpu.index() % self.cores / per_llc;
        (llc * per_llc..(llc + 1) * per_llc)
            .flat_map(|core| self.siblings(CpuId(core as u32)))
            .collect()
    }

    /// `scx_cpumask_to_cmask()`.
    pub fn to_cids(&self, cpus: &Cpumask) -> Cpumask {
        if self.smt == 1 && !self.overridden {
            return *cpus;
        }
        cpus.iter().map(|cpu| CpuId(self.cid(cpu).0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_are_neighbours_in_cid_space() {
        let topology = Topology::new(8, 2, 2);
        assert_eq!(topology.siblings(CpuId(1)).collect::<Vec<_>>(), [CpuId(1), CpuId(5)]);
        assert_eq!(topology.cid(CpuId(1)), Cid(2));
        assert_eq!(topology.cid(CpuId(5)), Cid(3));
        assert_eq!(topology.cpu(Cid(3)), Some(CpuId(5)));
        assert_eq!(topology.cpu(Cid(8)), None);
        assert_eq!(topology.llc(CpuId(6)).to_string(), "2-3,6-7");
        assert_eq!(topology.cid_topo(Cid(7)), [6, 3, 4, 1, 0, 0]);
    }

    #[test]
    fn cids_are_given_and_taken_back() {
        let mut topology = Topology::new(4, 2, 1);
        assert!(topology.override_cids(&[0, 1, 1, 3]).is_err());
        assert!(topology.override_cids(&[0, 1, 2, 4]).is_err());
        topology.override_cids(&[3, 2, 1, 0]).expect("each once");
        assert_eq!((topology.cid(CpuId(0)), topology.cpu(Cid(0))), (Cid(3), Some(CpuId(3))));
        assert_eq!(topology.cid_topo(Cid(0)), [-1; 6]);
        topology.reset_cids();
        assert_eq!(topology.cid(CpuId(1)), Cid(2));
    }
}
