// SPDX-License-Identifier: GPL-2.0-only
/*
 * What BPF programs can call.
 *
 * The kernel's own parameter `aux`, which callers do not give, is not here, and neither are the
 * twins that have it (`_impl`) but for those that BPF programs called before it was implied. Which ones acquire, release, may give NULL or may sleep is as in Linux
 * 7.2; functions that only 7.3 has are not marked.
 */

/* ---- sched_ext ---- */

/* Choosing a CPU. */
s32 scx_bpf_select_cpu_dfl(struct task_struct *p, s32 prev_cpu, u64 wake_flags, bool *is_idle);
s32 scx_bpf_select_cpu_and(struct task_struct *p, s32 prev_cpu, u64 wake_flags,
		const struct cpumask *cpus_allowed, u64 flags);
@since 6.19 s32 __scx_bpf_select_cpu_and(struct task_struct *p, const struct cpumask *cpus_allowed,
		struct scx_bpf_select_cpu_and_args *args);
bool scx_bpf_test_and_clear_cpu_idle(s32 cpu);
s32 scx_bpf_pick_idle_cpu(const struct cpumask *cpus_allowed, u64 flags);
@until 7.0 s32 scx_bpf_pick_idle_cpu_node(const struct cpumask *cpus_allowed, int node, u64 flags);
@since 7.1 s32 scx_bpf_pick_idle_cpu_node(const struct cpumask *cpus_allowed, s32 node, u64 flags);
s32 scx_bpf_pick_any_cpu(const struct cpumask *cpus_allowed, u64 flags);
@until 7.0 s32 scx_bpf_pick_any_cpu_node(const struct cpumask *cpus_allowed, int node, u64 flags);
@since 7.1 s32 scx_bpf_pick_any_cpu_node(const struct cpumask *cpus_allowed, s32 node, u64 flags);
@acquire const struct cpumask *scx_bpf_get_idle_cpumask(void);
@acquire @until 7.0 const struct cpumask *scx_bpf_get_idle_cpumask_node(int node);
@acquire @since 7.1 const struct cpumask *scx_bpf_get_idle_cpumask_node(s32 node);
@acquire const struct cpumask *scx_bpf_get_idle_smtmask(void);
@acquire @until 7.0 const struct cpumask *scx_bpf_get_idle_smtmask_node(int node);
@acquire @since 7.1 const struct cpumask *scx_bpf_get_idle_smtmask_node(s32 node);
@release void scx_bpf_put_idle_cpumask(const struct cpumask *idle_mask);

/* Inserting into dispatch queues. */
void scx_bpf_dsq_insert(struct task_struct *p, u64 dsq_id, u64 slice, u64 enq_flags);
@since 6.19 bool scx_bpf_dsq_insert___v2(struct task_struct *p, u64 dsq_id, u64 slice,
		u64 enq_flags);
void scx_bpf_dsq_insert_vtime(struct task_struct *p, u64 dsq_id, u64 slice, u64 vtime,
		u64 enq_flags);
@since 6.19 bool __scx_bpf_dsq_insert_vtime(struct task_struct *p,
		struct scx_bpf_dsq_insert_vtime_args *args);
@until 6.16 void scx_bpf_dispatch(struct task_struct *p, u64 dsq_id, u64 slice, u64 enq_flags);
@until 6.16 void scx_bpf_dispatch_vtime(struct task_struct *p, u64 dsq_id, u64 slice, u64 vtime,
		u64 enq_flags);

/* In ops.dispatch. */
u32 scx_bpf_dispatch_nr_slots(void);
void scx_bpf_dispatch_cancel(void);
bool scx_bpf_dsq_move_to_local(u64 dsq_id);
@since 7.1 bool scx_bpf_dsq_move_to_local___v2(u64 dsq_id, u64 enq_flags);
@since 7.1 bool scx_bpf_sub_dispatch(u64 cgroup_id);

/* Moving between dispatch queues. */
bool scx_bpf_dsq_move(struct bpf_iter_scx_dsq *it__iter, struct task_struct *p, u64 dsq_id,
		u64 enq_flags);
bool scx_bpf_dsq_move_vtime(struct bpf_iter_scx_dsq *it__iter, struct task_struct *p, u64 dsq_id,
		u64 enq_flags);
void scx_bpf_dsq_move_set_slice(struct bpf_iter_scx_dsq *it__iter, u64 slice);
void scx_bpf_dsq_move_set_vtime(struct bpf_iter_scx_dsq *it__iter, u64 vtime);
@until 6.16 bool scx_bpf_consume(u64 dsq_id);
@until 6.16 bool scx_bpf_dispatch_from_dsq(struct bpf_iter_scx_dsq *it__iter, struct task_struct *p,
		u64 dsq_id, u64 enq_flags);
@until 6.16 bool scx_bpf_dispatch_vtime_from_dsq(struct bpf_iter_scx_dsq *it__iter,
		struct task_struct *p, u64 dsq_id, u64 enq_flags);
@until 6.16 void scx_bpf_dispatch_from_dsq_set_slice(struct bpf_iter_scx_dsq *it__iter, u64 slice);
@until 6.16 void scx_bpf_dispatch_from_dsq_set_vtime(struct bpf_iter_scx_dsq *it__iter, u64 vtime);

/* Enqueueing again. */
u32 scx_bpf_reenqueue_local(void);
@since 6.19 void scx_bpf_reenqueue_local___v2(void);
@since 7.1 void scx_bpf_dsq_reenq(u64 dsq_id, u64 reenq_flags);

/* Dispatch queues. */
@sleepable s32 scx_bpf_create_dsq(u64 dsq_id, s32 node);
void scx_bpf_destroy_dsq(u64 dsq_id);
s32 scx_bpf_dsq_nr_queued(u64 dsq_id);
@null @rcu @since 6.19 struct task_struct *scx_bpf_dsq_peek(u64 dsq_id);
@rcu int bpf_iter_scx_dsq_new(struct bpf_iter_scx_dsq *it, u64 dsq_id, u64 flags);
@null struct task_struct *bpf_iter_scx_dsq_next(struct bpf_iter_scx_dsq *it);
void bpf_iter_scx_dsq_destroy(struct bpf_iter_scx_dsq *it);

/* Tasks. */
bool scx_bpf_task_running(const struct task_struct *p);
s32 scx_bpf_task_cpu(const struct task_struct *p);
@since 7.2 s32 scx_bpf_task_cid(const struct task_struct *p);
@acquire struct cgroup *scx_bpf_task_cgroup(struct task_struct *p);
@since 6.19 bool scx_bpf_task_set_slice(struct task_struct *p, u64 slice);
@since 6.19 bool scx_bpf_task_set_dsq_vtime(struct task_struct *p, u64 vtime);
@null @rcu @since 7.2 struct task_struct *scx_bpf_tid_to_task(u64 tid);

/* CPUs. */
void scx_bpf_kick_cpu(s32 cpu, u64 flags);
u32 scx_bpf_nr_cpu_ids(void);
u32 scx_bpf_nr_node_ids(void);
@until 7.0 int scx_bpf_cpu_node(s32 cpu);
@since 7.1 s32 scx_bpf_cpu_node(s32 cpu);
@acquire const struct cpumask *scx_bpf_get_possible_cpumask(void);
@acquire const struct cpumask *scx_bpf_get_online_cpumask(void);
@release void scx_bpf_put_cpumask(const struct cpumask *cpumask);
@until 7.2 struct rq *scx_bpf_cpu_rq(s32 cpu);
@null @since 6.18 struct rq *scx_bpf_locked_rq(void);
@null @rcu @since 6.18 struct task_struct *scx_bpf_cpu_curr(s32 cpu);
u32 scx_bpf_cpuperf_cap(s32 cpu);
u32 scx_bpf_cpuperf_cur(s32 cpu);
void scx_bpf_cpuperf_set(s32 cpu, u32 perf);

/* CPUs by cid. */
@since 7.2 u32 scx_bpf_nr_cids(void);
@since 7.2 u32 scx_bpf_nr_online_cids(void);
@since 7.2 s32 scx_bpf_this_cid(void);
@since 7.2 s32 scx_bpf_cid_to_cpu(s32 cid);
@since 7.2 s32 scx_bpf_cpu_to_cid(s32 cpu);
@since 7.2 void scx_bpf_cid_topo(s32 cid, struct scx_cid_topo *out, size_t out__sz);
@sleepable @since 7.2 @until 7.2 void scx_bpf_cid_override(const s32 *cpu_to_cid,
		u32 cpu_to_cid__sz);
@sleepable @since 7.3 void scx_bpf_cid_override(const s32 *cpu_to_cid__arena, u32 cpu_to_cid_cnt,
		const s32 *shard_start__arena, u32 shard_start_cnt);
@null @rcu @since 7.2 struct task_struct *scx_bpf_cid_curr(s32 cid);
@since 7.3 const void *scx_bpf_online_cmask(void);
@since 7.2 void scx_bpf_kick_cid(s32 cid, u64 flags);
@since 7.2 u32 scx_bpf_cidperf_cap(s32 cid);
@since 7.2 u32 scx_bpf_cidperf_cur(s32 cid);
@since 7.2 @until 7.2 void scx_bpf_cidperf_set(s32 cid, u32 perf);
@since 7.3 s32 scx_bpf_cidperf_set(s32 cid, u32 perf);

/* Sub-schedulers. */
@since 7.3 s32 scx_bpf_sub_grant(u64 cgroup_id, u64 caps, const struct scx_cmask *cmask__arena,
		struct scx_cmask *denied_out__arena__nullable);
@since 7.3 void scx_bpf_sub_revoke(u64 cgroup_id, u64 caps, const struct scx_cmask *cmask__arena);
@since 7.3 s32 scx_bpf_sub_caps(u64 cgroup_id, u64 caps, struct scx_cmask *out__arena);
@since 7.3 s32 scx_bpf_sub_kill_bstr(u64 cgroup_id, char *fmt, unsigned long long *data,
		u32 data__sz);

/* Time, events, the end. */
u64 scx_bpf_now(void);
void scx_bpf_events(struct scx_event_stats *events, size_t events__sz);
void scx_bpf_exit_bstr(s64 exit_code, char *fmt, unsigned long long *data, u32 data__sz);
void scx_bpf_error_bstr(char *fmt, unsigned long long *data, u32 data__sz);
void scx_bpf_dump_bstr(char *fmt, unsigned long long *data, u32 data__sz);

/* ---- BPF itself ---- */

/* Iterators. */
int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end);
@null int *bpf_iter_num_next(struct bpf_iter_num *it);
void bpf_iter_num_destroy(struct bpf_iter_num *it);
int bpf_iter_bits_new(struct bpf_iter_bits *it, const u64 *unsafe_ptr__ign, u32 nr_words);
@null int *bpf_iter_bits_next(struct bpf_iter_bits *it);
void bpf_iter_bits_destroy(struct bpf_iter_bits *it);
@rcu int bpf_iter_css_new(struct bpf_iter_css *it, struct cgroup_subsys_state *start,
		unsigned int flags);
@null struct cgroup_subsys_state *bpf_iter_css_next(struct bpf_iter_css *it);
void bpf_iter_css_destroy(struct bpf_iter_css *it);
int bpf_iter_css_task_new(struct bpf_iter_css_task *it, struct cgroup_subsys_state *css,
		unsigned int flags);
@null struct task_struct *bpf_iter_css_task_next(struct bpf_iter_css_task *it);
void bpf_iter_css_task_destroy(struct bpf_iter_css_task *it);
@rcu int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task__nullable,
		unsigned int flags);
@null struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it);
void bpf_iter_task_destroy(struct bpf_iter_task *it);

/* CPU masks. */
@acquire @null struct bpf_cpumask *bpf_cpumask_create(void);
@acquire struct bpf_cpumask *bpf_cpumask_acquire(struct bpf_cpumask *cpumask);
@release void bpf_cpumask_release(struct bpf_cpumask *cpumask);
u32 bpf_cpumask_first(const struct cpumask *cpumask);
u32 bpf_cpumask_first_zero(const struct cpumask *cpumask);
u32 bpf_cpumask_first_and(const struct cpumask *src1, const struct cpumask *src2);
void bpf_cpumask_set_cpu(u32 cpu, struct bpf_cpumask *cpumask);
void bpf_cpumask_clear_cpu(u32 cpu, struct bpf_cpumask *cpumask);
bool bpf_cpumask_test_cpu(u32 cpu, const struct cpumask *cpumask);
bool bpf_cpumask_test_and_set_cpu(u32 cpu, struct bpf_cpumask *cpumask);
bool bpf_cpumask_test_and_clear_cpu(u32 cpu, struct bpf_cpumask *cpumask);
void bpf_cpumask_setall(struct bpf_cpumask *cpumask);
void bpf_cpumask_clear(struct bpf_cpumask *cpumask);
bool bpf_cpumask_and(struct bpf_cpumask *dst, const struct cpumask *src1,
		const struct cpumask *src2);
void bpf_cpumask_or(struct bpf_cpumask *dst, const struct cpumask *src1,
		const struct cpumask *src2);
void bpf_cpumask_xor(struct bpf_cpumask *dst, const struct cpumask *src1,
		const struct cpumask *src2);
bool bpf_cpumask_equal(const struct cpumask *src1, const struct cpumask *src2);
bool bpf_cpumask_intersects(const struct cpumask *src1, const struct cpumask *src2);
bool bpf_cpumask_subset(const struct cpumask *src1, const struct cpumask *src2);
bool bpf_cpumask_empty(const struct cpumask *cpumask);
bool bpf_cpumask_full(const struct cpumask *cpumask);
void bpf_cpumask_copy(struct bpf_cpumask *dst, const struct cpumask *src);
u32 bpf_cpumask_any_distribute(const struct cpumask *cpumask);
u32 bpf_cpumask_any_and_distribute(const struct cpumask *src1, const struct cpumask *src2);
u32 bpf_cpumask_weight(const struct cpumask *cpumask);
@until 7.1 int bpf_cpumask_populate(struct cpumask *cpumask, void *src, size_t src__sz);
@since 7.2 int bpf_cpumask_populate(struct bpf_cpumask *cpumask, void *src, size_t src__sz);

/* Tasks and cgroups. */
@acquire @null struct task_struct *bpf_task_acquire(struct task_struct *p);
@release void bpf_task_release(struct task_struct *p);
@acquire @null struct task_struct *bpf_task_from_pid(s32 pid);
@acquire @null struct task_struct *bpf_task_from_vpid(s32 vpid);
long bpf_task_under_cgroup(struct task_struct *task, struct cgroup *ancestor);
@acquire @null struct cgroup *bpf_cgroup_acquire(struct cgroup *cgrp);
@release void bpf_cgroup_release(struct cgroup *cgrp);
@acquire @null struct cgroup *bpf_cgroup_from_id(u64 cgid);
@acquire @null struct cgroup *bpf_cgroup_ancestor(struct cgroup *cgrp, int level);

/* Sections that nothing interrupts. */
void bpf_rcu_read_lock(void);
void bpf_rcu_read_unlock(void);
void bpf_preempt_disable(void);
void bpf_preempt_enable(void);
void bpf_local_irq_save(unsigned long *flags__irq_flag);
void bpf_local_irq_restore(unsigned long *flags__irq_flag);
@null int bpf_res_spin_lock(struct bpf_res_spin_lock *lock);
void bpf_res_spin_unlock(struct bpf_res_spin_lock *lock);
@null int bpf_res_spin_lock_irqsave(struct bpf_res_spin_lock *lock, unsigned long *flags__irq_flag);
void bpf_res_spin_unlock_irqrestore(struct bpf_res_spin_lock *lock, unsigned long *flags__irq_flag);

/* Arenas. */
void *bpf_arena_alloc_pages(void *p__map, void *addr__ign, u32 page_cnt, int node_id, u64 flags);
@since 6.17 int bpf_arena_reserve_pages(void *p__map, void *ptr__ign, u32 page_cnt);
void bpf_arena_free_pages(void *p__map, void *ptr__ign, u32 page_cnt);

/* Objects. */
@acquire @null @since 7.1 void *bpf_obj_new(u64 local_type_id__k);
@acquire @null void *bpf_obj_new_impl(u64 local_type_id__k, void *meta__ign);
@release @since 7.1 void bpf_obj_drop(void *p__alloc);
@release void bpf_obj_drop_impl(void *p__alloc, void *meta__ign);
@acquire @null @since 7.1 void *bpf_refcount_acquire(void *p__refcounted_kptr);
@acquire @null void *bpf_refcount_acquire_impl(void *p__refcounted_kptr, void *meta__ign);
@acquire @null @since 7.1 void *bpf_percpu_obj_new(u64 local_type_id__k);
@acquire @null void *bpf_percpu_obj_new_impl(u64 local_type_id__k, void *meta__ign);
@release @since 7.1 void bpf_percpu_obj_drop(void *p__alloc);
@release void bpf_percpu_obj_drop_impl(void *p__alloc, void *meta__ign);

/* Lists and trees. */
@since 7.1 int bpf_list_push_front(struct bpf_list_head *head, struct bpf_list_node *node);
int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta__ign,
		u64 off);
@since 7.1 int bpf_list_push_back(struct bpf_list_head *head, struct bpf_list_node *node);
int bpf_list_push_back_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta__ign,
		u64 off);
@acquire @null struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head);
@acquire @null struct bpf_list_node *bpf_list_pop_back(struct bpf_list_head *head);
@null struct bpf_list_node *bpf_list_front(struct bpf_list_head *head);
@null struct bpf_list_node *bpf_list_back(struct bpf_list_head *head);
@since 7.2 int bpf_list_add(struct bpf_list_head *head, struct bpf_list_node *new,
		struct bpf_list_node *prev__nonown_allowed);
@acquire @null @since 7.2 struct bpf_list_node *bpf_list_del(struct bpf_list_head *head,
		struct bpf_list_node *node__nonown_allowed);
@since 7.2 bool bpf_list_empty(struct bpf_list_head *head);
@since 7.2 bool bpf_list_is_first(struct bpf_list_head *head,
		struct bpf_list_node *node__nonown_allowed);
@since 7.2 bool bpf_list_is_last(struct bpf_list_head *head,
		struct bpf_list_node *node__nonown_allowed);
@since 7.1 int bpf_rbtree_add(struct bpf_rb_root *root, struct bpf_rb_node *node,
		bool (*less)(struct bpf_rb_node *, const struct bpf_rb_node *));
int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
		bool (*less)(struct bpf_rb_node *, const struct bpf_rb_node *), void *meta__ign,
		u64 off);
@acquire @null struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root,
		struct bpf_rb_node *node);
@null struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root);
@null struct bpf_rb_node *bpf_rbtree_root(struct bpf_rb_root *root);
@null struct bpf_rb_node *bpf_rbtree_left(struct bpf_rb_root *root, struct bpf_rb_node *node);
@null struct bpf_rb_node *bpf_rbtree_right(struct bpf_rb_root *root, struct bpf_rb_node *node);

/* Pointers. */
void *bpf_rdonly_cast(const void *obj__ign, u32 btf_id__k);
void *bpf_cast_to_kern_ctx(void *obj);
@until 6.18 int bpf_dynptr_adjust(const struct bpf_dynptr *p, u32 start, u32 end);
@since 6.19 @until 7.1 int bpf_dynptr_adjust(const struct bpf_dynptr *p, u64 start, u64 end);
@since 7.2 int bpf_dynptr_adjust(struct bpf_dynptr *p, u64 start, u64 end);
bool bpf_dynptr_is_null(const struct bpf_dynptr *p);
bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *p);
@until 6.18 __u32 bpf_dynptr_size(const struct bpf_dynptr *p);
@since 6.19 u64 bpf_dynptr_size(const struct bpf_dynptr *p);
int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *clone__uninit);
@null @until 6.18 void *bpf_dynptr_slice(const struct bpf_dynptr *p, u32 offset, void *buffer__opt,
		u32 buffer__szk);
@null @since 6.19 @until 6.19 void *bpf_dynptr_slice(const struct bpf_dynptr *p, u64 offset,
		void *buffer__opt, u64 buffer__szk);
@null @since 7.0 void *bpf_dynptr_slice(const struct bpf_dynptr *p, u64 offset,
		void *buffer__nullable, u64 buffer__szk);
@null @until 6.18 void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, u32 offset,
		void *buffer__opt, u32 buffer__szk);
@null @since 6.19 @until 6.19 void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, u64 offset,
		void *buffer__opt, u64 buffer__szk);
@null @since 7.0 void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, u64 offset,
		void *buffer__nullable, u64 buffer__szk);
@until 6.18 int bpf_dynptr_copy(struct bpf_dynptr *dst_ptr, u32 dst_off, struct bpf_dynptr *src_ptr,
		u32 src_off, u32 size);
@since 6.19 @until 7.1 int bpf_dynptr_copy(struct bpf_dynptr *dst_ptr, u64 dst_off,
		struct bpf_dynptr *src_ptr, u64 src_off, u64 size);
@since 7.2 int bpf_dynptr_copy(const struct bpf_dynptr *dst_ptr, u64 dst_off,
		const struct bpf_dynptr *src_ptr, u64 src_off, u64 size);
@since 6.17 @until 6.18 int bpf_dynptr_memset(struct bpf_dynptr *p, u32 offset, u32 size, u8 val);
@since 6.19 @until 7.1 int bpf_dynptr_memset(struct bpf_dynptr *p, u64 offset, u64 size, u8 val);
@since 7.2 int bpf_dynptr_memset(const struct bpf_dynptr *p, u64 offset, u64 size, u8 val);

/* Only ever named. */
struct bpf_prog_aux { };

/* Text. */
@since 6.17 int bpf_strcmp(const char *s1__ign, const char *s2__ign);
@since 6.18 int bpf_strcasecmp(const char *s1__ign, const char *s2__ign);
@since 7.0 int bpf_strncasecmp(const char *s1__ign, const char *s2__ign, size_t len);
@since 6.17 int bpf_strchr(const char *s__ign, char c);
@since 6.17 int bpf_strchrnul(const char *s__ign, char c);
@since 6.17 int bpf_strnchr(const char *s__ign, size_t count, char c);
@since 6.17 int bpf_strrchr(const char *s__ign, int c);
@since 6.17 int bpf_strlen(const char *s__ign);
@since 6.17 int bpf_strnlen(const char *s__ign, size_t count);
@since 6.17 int bpf_strspn(const char *s__ign, const char *accept__ign);
@since 6.17 int bpf_strcspn(const char *s__ign, const char *reject__ign);
@since 6.17 int bpf_strstr(const char *s1__ign, const char *s2__ign);
@since 6.19 int bpf_strcasestr(const char *s1__ign, const char *s2__ign);
@since 6.17 int bpf_strnstr(const char *s1__ign, const char *s2__ign, size_t len);
@since 6.19 int bpf_strncasestr(const char *s1__ign, const char *s2__ign, size_t len);

/* The rest. */
s64 bpf_map_sum_elem_count(const struct bpf_map *map);
@since 6.17 @until 6.17 int bpf_stream_vprintk(int stream_id, const char *fmt__str, const void *args,
		u32 len__sz, void *aux__prog);
@since 7.0 int bpf_stream_vprintk(int stream_id, const char *fmt__str, const void *args,
		u32 len__sz);
@since 6.18 @until 6.19 int bpf_stream_vprintk_impl(int stream_id, const char *fmt__str,
		const void *args, u32 len__sz, void *aux__prog);
@since 7.0 int bpf_stream_vprintk_impl(int stream_id, const char *fmt__str, const void *args,
		u32 len__sz, struct bpf_prog_aux *aux);
