// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs beside a scheduler's operations: at tracepoints, which count what they see, and ones that
 * user space runs.
 */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

#define TASK_DEAD 0x80

s32 scx_bpf_dsq_nr_queued(u64 dsq_id) __ksym;

/* What was seen, and what did not fit what is known already. */
u64 switches, dead, wakings, wakeups, news, migrations, forks, execs, exits, last_of_group, renames;
u64 wrong_current, wrong_state, wrong_comm, wrong_pid;
/* What user space had done. */
u64 tuned;

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	switches++;
	if (prev_state == TASK_DEAD)
		dead++;
	if ((struct task_struct *)bpf_get_current_task_btf() != prev)
		wrong_current++;
	if (prev_state == TASK_DEAD && preempt)
		wrong_state++;
	return 0;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *p)
{
	wakings++;
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *p)
{
	wakeups++;
	if (p->__state)
		wrong_state++;
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_wakeup_new, struct task_struct *p)
{
	news++;
	return 0;
}

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(on_migrate, struct task_struct *p, int dest_cpu)
{
	migrations++;
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	forks++;
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *p, int old_pid)
{
	execs++;
	/* The workload's execs are by threads that are no leaders: they take the leader's pid. */
	if (p->pid == old_pid)
		wrong_pid++;
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *p, bool group_dead)
{
	exits++;
	if (group_dead)
		last_of_group++;
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(on_rename, struct task_struct *p, const char *comm)
{
	char name[4] = {};

	renames++;
	if (bpf_probe_read_kernel_str(name, sizeof(name), comm) < 0 || !name[0])
		wrong_comm++;
	return 0;
}

/* Autoload is off: nobody misses it. */
SEC("?fentry/do_nothing_at_all")
int BPF_PROG(on_nothing)
{
	return 0;
}

struct tune_args {
	u32 add;
	s32 queued;
};

SEC("syscall")
int tune(struct tune_args *args)
{
	tuned += args->add;
	args->queued = scx_bpf_dsq_nr_queued(SCX_DSQ_LOCAL);
	return tuned;
}

SEC("syscall")
int create(void *ctx)
{
	return scx_bpf_create_dsq(77, -1);
}

SEC("syscall")
int wild(u64 *ctx)
{
	return ctx[2];
}

SEC(".struct_ops.link")
struct sched_ext_ops beside_ops = {
	.name = "beside",
};
