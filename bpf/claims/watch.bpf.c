// SPDX-License-Identifier: GPL-2.0-only
/*
 * watch: a scheduler, and programs beside it, that hold the tid contract against every fork, exec,
 * exit and switch. For `scxlab claims`, on kernels with tids of their own and on others.
 *
 * Each way in which a claim can fail is a counter, which is 0 if all is well; each situation that a
 * claim speaks of is a counter too, so that nobody takes for held what never came up. They count
 * between start_watching and stop_watching, because a lookup by a kernel that is still enabling
 * ejects the scheduler (claim C8).
 */
#include "scx.bpf.h"
#include "scx_tid.bpf.h"

char _license[] SEC("license") = "GPL";

/* Of the user-space interface, and of include/linux/sched.h: no BTF has them. */
#define BPF_ANY 0
#define PF_EXITING 0x4
#define TASK_NEW 0x800

/* For the verifier, to which a loop has to end. */
#define MANY (1 << 22)

#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

struct pid;

struct task_struct___watch {
	unsigned int __state;
	unsigned int flags;
	int exit_state;
	int pid;
	int tgid;
	struct pid *thread_pid;
	char comm[16];
} __attribute__((preserve_access_index));

struct scx_init_task_args___watch {
	bool fork;
} __attribute__((preserve_access_index));

#define MORE(p) ((struct task_struct___watch *)(p))

bool watching;

/* Situations. */
u64 forks, pids_reused, pinned_forks;
u64 leader_execs, nonleader_execs, deaths;
u64 callbacks, inits, burnt, idle_switches;
u64 exiting, released_by_exit, released_by_wait, released_by_exec, callbacks_after_release;
u64 freed;
u64 surveyed, zombies;
/* Of what could not be said. */
u64 unsure;

/* What is wrong. */
u64 wrong_no_tid, wrong_repeated, wrong_not_issued;
u64 wrong_tid_at_exec, wrong_tid_at_death;
u64 wrong_missed_after_fork, wrong_missed_in_callback, wrong_missed_existing, wrong_early, wrong_idle;
u64 wrong_missed_exiting, wrong_missed_released, wrong_found_by_pid;
u64 wrong_found_freed, wrong_zombie;

/* The first task with which something was wrong. */
u64 example_set, example_tid;
s32 example_pid;

#define WRONG(counter, p, tid)                                                                     \
	({                                                                                         \
		COUNT(counter);                                                                    \
		remember((p)->pid, tid);                                                           \
	})

static __always_inline void remember(s32 pid, u64 tid)
{
	if (__sync_lock_test_and_set(&example_set, 1))
		return;
	example_pid = pid;
	example_tid = tid;
}

/* Who released the pid of a task. */
enum release { BY_NOBODY, BY_EXIT, BY_WAIT, BY_EXEC };

/* A task that was forked before our eyes, by its address, which it has to its end. */
struct life {
	u64 tid;
	u32 release;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct life);
} lives SEC(".maps");

/* All tids that were handed out since the attach. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, u64);
	__type(value, u8);
} issued SEC(".maps");

/* Those that a task named "pinned..." got for its children, and the CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, u64);
	__type(value, u32);
} pinned SEC(".maps");

/* Pids that were given to a child. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, s32);
	__type(value, u8);
} pids SEC(".maps");

static __always_inline struct life *life_of(struct task_struct *p)
{
	u64 address = (u64)p;

	return bpf_map_lookup_elem(&lives, &address);
}

/* In a tracing program, where the portable tid's storage may be busy: 0 then. */
static __always_inline u64 tid_of(struct task_struct *p)
{
	struct life *life;

	if (scx_tid_is_native())
		return scx_tid_of_task(p);
	life = life_of(p);
	return life ? life->tid : scx_tid_of_task(p);
}

static __always_inline bool is_found(struct task_struct *p, u64 tid)
{
	return scx_tid_to_task(tid) == p;
}

/* C1: from its fork on; and C3: from the end of its fork on. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(forked, struct task_struct *parent, struct task_struct *child)
{
	const char *comm = MORE(parent)->comm;
	struct life life = {};
	u64 tid, address = (u64)child;
	u32 cpu = bpf_get_smp_processor_id();
	s32 pid = child->pid;
	u8 one = 1;

	if (!watching)
		return 0;
	tid = scx_tid_of_task(child);
	COUNT(forks);
	if (bpf_map_update_elem(&pids, &pid, &one, BPF_NOEXIST))
		COUNT(pids_reused);
	if (!tid) {
		WRONG(wrong_no_tid, child, tid);
		return 0;
	}
	if (!bpf_map_lookup_elem(&issued, &tid))
		WRONG(wrong_not_issued, child, tid);
	if (!is_found(child, tid))
		WRONG(wrong_missed_after_fork, child, tid);
	life.tid = tid;
	if (bpf_map_update_elem(&lives, &address, &life, BPF_ANY)) {
		bpf_map_delete_elem(&lives, &address);
		COUNT(unsure);
	}
	if (comm[0] == 'p' && comm[1] == 'i' && comm[2] == 'n' && comm[3] == 'n') {
		COUNT(pinned_forks);
		bpf_map_update_elem(&pinned, &tid, &cpu, BPF_ANY);
	}
	return 0;
}

/* C2: exec, by the leader and by another thread. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(execed, struct task_struct *p, s32 old_pid)
{
	struct life *life = life_of(p);
	u64 tid = scx_tid_of_task(p);

	if (!watching || !life)
		return 0;
	if (!tid) {
		COUNT(unsure);
		return 0;
	}
	if (old_pid == p->pid)
		COUNT(leader_execs);
	else
		COUNT(nonleader_execs);
	if (tid != life->tid || !is_found(p, tid))
		WRONG(wrong_tid_at_exec, p, tid);
	return 0;
}

/* C4: it is dying, and has its pid. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(exited, struct task_struct *p)
{
	u64 tid;

	if (!watching)
		return 0;
	tid = tid_of(p);
	COUNT(exiting);
	if (!tid)
		COUNT(unsure);
	else if (!is_found(p, tid))
		WRONG(wrong_missed_exiting, p, tid);
	return 0;
}

/* Begins to release a task's pid: its own exit, its parent's wait, or an exec beside it. */
SEC("fentry/release_task")
int BPF_PROG(released, struct task_struct *p)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct life *life = life_of(p);

	if (!watching || !life)
		return 0;
	if (current == p)
		life->release = BY_EXIT;
	else if (MORE(current)->tgid != MORE(p)->tgid)
		life->release = BY_WAIT;
	else if (!(MORE(current)->flags & PF_EXITING))
		life->release = BY_EXEC;
	return 0;
}

static __always_inline void check_released(struct task_struct *p, u64 tid)
{
	struct life *life = life_of(p);
	struct task_struct *other;

	if (MORE(p)->thread_pid)
		return;
	if (life && life->release == BY_EXIT)
		COUNT(released_by_exit);
	if (life && life->release == BY_WAIT)
		COUNT(released_by_wait);
	if (life && life->release == BY_EXEC)
		COUNT(released_by_exec);
	if (!is_found(p, tid))
		WRONG(wrong_missed_released, p, tid);
	other = bpf_task_from_pid(p->pid);
	if (other) {
		if (other == p)
			WRONG(wrong_found_by_pid, p, tid);
		bpf_task_release(other);
	}
}

/*
 * A leader that dies of an exec in another thread goes on to its last switch while that thread
 * releases its pid, and a child while its parent does. Which is first is chance; here a "shell" and
 * an "image" wait a little for it.
 */
static __always_inline void wait_for_release(struct task_struct *p)
{
	const char *comm = MORE(p)->comm;
	u64 start = bpf_ktime_get_ns();

	if (p->pid != MORE(p)->tgid ||
	    !((comm[0] == 's' && comm[1] == 'h') || (comm[0] == 'i' && comm[1] == 'm')))
		return;
	bpf_repeat(MANY) {
		if (!*(struct pid *volatile *)&MORE(p)->thread_pid ||
		    bpf_ktime_get_ns() - start > 3000000)
			break;
	}
}

/* C4: after exit_notify(), on its way to its last switch. */
SEC("fentry/do_task_dead")
int BPF_PROG(dying)
{
	struct task_struct *p = bpf_get_current_task_btf();
	struct life *life;
	u64 tid;

	if (!watching)
		return 0;
	tid = tid_of(p);
	if (!tid) {
		COUNT(unsure);
		return 0;
	}
	life = life_of(p);
	if (life) {
		u64 now = scx_tid_of_task(p);

		COUNT(deaths);
		if (now && now != life->tid)
			WRONG(wrong_tid_at_death, p, tid);
	}
	if (!is_found(p, tid))
		WRONG(wrong_missed_exiting, p, tid);
	wait_for_release(p);
	check_released(p, tid);
	return 0;
}

/*
 * C4: switched out when it has no pid any more. At the last switch the portable tid has let go of
 * the task in this very tracepoint; the kernel does so after it, in sched_ext_dead().
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(switched, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	u64 tid;

	if (!watching)
		return 0;
	if (!prev->pid) {
		COUNT(idle_switches);
		tid = scx_tid_of_task(prev);
		if (is_found(prev, tid))
			WRONG(wrong_idle, prev, tid);
		return 0;
	}
	if (!(MORE(prev)->flags & PF_EXITING))
		return 0;
	if (!scx_tid_is_native() && prev_state == SCX_TID_TASK_DEAD)
		return 0;
	tid = tid_of(prev);
	if (tid && !is_found(prev, tid))
		WRONG(wrong_missed_exiting, prev, tid);
	return 0;
}

#include "hold.bpf.h"

/* C5: nothing of the task is left but its memory. C6: what a reader holds is not freed. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(gone, struct task_struct *p)
{
	u64 address = (u64)p;
	struct life *life = life_of(p);
	u64 tid;

	if (!life)
		return 0;
	tid = life->tid;
	bpf_map_delete_elem(&lives, &address);
	if (!watching)
		return 0;
	COUNT(freed);
	if (scx_tid_to_task(tid))
		WRONG(wrong_found_freed, p, tid);
	if (tid == held_tid)
		held_freed_at = bpf_ktime_get_ns();
	return 0;
}

/* C3 and C5: every task that has a pid. */
struct bpf_iter__task {
	struct task_struct *task;
} __attribute__((preserve_access_index));

SEC("iter/task")
int survey(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task, *by_pid;
	const char *comm;
	u64 tid;
	bool found;

	if (!p)
		return 0;
	/* copy_process() gives it its pid before sched_post_fork(): its fork may not be finished. */
	if (*(volatile unsigned int *)&MORE(p)->__state == TASK_NEW)
		return 0;
	comm = MORE(p)->comm;
	tid = scx_tid_of_task(p);
	found = tid && is_found(p, tid);
	if (MORE(p)->exit_state) {
		/* These had the time for their last switch; others may be on the way to it. */
		if (comm[0] != 'z' || comm[1] != 'o' || comm[2] != 'm')
			return 0;
		by_pid = bpf_task_from_pid(p->pid);
		if (by_pid) {
			COUNT(zombies);
			bpf_task_release(by_pid);
		}
		if (found)
			WRONG(wrong_zombie, p, tid);
		return 0;
	}
	/* It may have died since. TASK_DEAD is there before the last switch. */
	if (!found && *(volatile unsigned int *)&MORE(p)->__state == SCX_TID_TASK_DEAD)
		return 0;
	COUNT(surveyed);
	if (!found)
		WRONG(wrong_missed_existing, p, tid);
	return 0;
}

SEC("syscall")
int start_watching(void *ctx)
{
	watching = true;
	return 0;
}

SEC("syscall")
int stop_watching(void *ctx)
{
	watching = false;
	return 0;
}

#define LOOK_UP(tid) scx_tid_to_task(tid)
#include "ask.bpf.h"

/* A callback for a live task: C3, and C4 if it is dying. */
static __always_inline void called(struct task_struct *p)
{
	u64 tid;

	if (!watching)
		return;
	tid = scx_tid_of_task(p);
	COUNT(callbacks);
	if (!is_found(p, tid))
		WRONG(wrong_missed_in_callback, p, tid);
	if ((MORE(p)->flags & PF_EXITING) && !MORE(p)->thread_pid)
		COUNT(callbacks_after_release);
}

s32 BPF_STRUCT_OPS(watch_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	bool is_idle = false;
	s32 cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &is_idle);

	called(p);
	if (is_idle)
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, 5000000, 0);
	return cpu;
}

void BPF_STRUCT_OPS(watch_enqueue, struct task_struct *p, u64 enq_flags)
{
	called(p);
	scx_bpf_dsq_insert(p, SCX_DSQ_GLOBAL, 5000000, enq_flags);
}

void BPF_STRUCT_OPS(watch_running, struct task_struct *p)
{
	called(p);
}

void BPF_STRUCT_OPS(watch_stopping, struct task_struct *p, bool runnable)
{
	called(p);
}

/* C1 and C11: every tid, also of a fork that fails later. Those of a task "failing" do: here. */
s32 BPF_STRUCT_OPS_SLEEPABLE(watch_init_task, struct task_struct *p,
			     struct scx_init_task_args *args)
{
	bool fork = ((struct scx_init_task_args___watch *)args)->fork;
	const char *comm = MORE(p)->comm;
	u8 one = 1;
	s32 err;
	u64 tid;

	err = scx_tid_init_task(p);
	if (err)
		return err;
	tid = scx_tid_of_task(p);
	if (!tid) {
		WRONG(wrong_no_tid, p, tid);
		return 0;
	}
	COUNT(inits);
	if (bpf_map_update_elem(&issued, &tid, &one, BPF_NOEXIST)) {
		if (bpf_map_lookup_elem(&issued, &tid))
			WRONG(wrong_repeated, p, tid);
		else
			COUNT(unsure);
	}
	if (fork && watching && scx_tid_is_native()) {
		bpf_rcu_read_lock();
		if (scx_tid_to_task(tid))
			WRONG(wrong_early, p, tid);
		bpf_rcu_read_unlock();
	}
	if (fork && comm[0] == 'f' && comm[1] == 'a' && comm[2] == 'i' && comm[3] == 'l') {
		scx_tid_exit_task(p);
		COUNT(burnt);
		return -ENOMEM;
	}
	return 0;
}

void BPF_STRUCT_OPS(watch_exit_task, struct task_struct *p, struct scx_exit_task_args *args)
{
	scx_tid_exit_task(p);
}

/* For C14: whether attaching is to fail, after all that comes before the tasks' part of it. */
const volatile bool fail_init;

s32 BPF_STRUCT_OPS_SLEEPABLE(watch_init)
{
	return fail_init ? -ENOMEM : 0;
}

void BPF_STRUCT_OPS(watch_exit, struct scx_exit_info *ei)
{
	uei_record(ei);
}

SEC(".struct_ops.link")
struct sched_ext_ops watch_ops = {
	.select_cpu = (void *)watch_select_cpu,
	.enqueue = (void *)watch_enqueue,
	.running = (void *)watch_running,
	.stopping = (void *)watch_stopping,
	.init_task = (void *)watch_init_task,
	.exit_task = (void *)watch_exit_task,
	.init = (void *)watch_init,
	.exit = (void *)watch_exit,
	.timeout_ms = 20000,
	.name = "watch",
};
