// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two schedulers, and all that a scheduler's user space can choose between opening and loading:
 * which of them, which programs, variables, lengths, and what is in maps. `look` says what it was.
 */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

struct layer {
	u32 weight;
	u64 mask;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, struct layer);
} layers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} sized SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 8);
	__type(key, u32);
	__array(values, struct inner);
} maps SEC(".maps");

/* A kind of map for whose values the kernel takes no types. */
struct queue {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, u32);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 8);
	__type(key, u32);
	__array(values, struct queue);
} queues SEC(".maps");

const volatile u32 list[4];
const volatile u32 nr_long = 1;
u64 long_array[1] SEC(".data.long_array");

/* What was seen. */
u64 list_sum, layer_weight, layer_mask, sized_at_2, inner_maps, inner_queues, long_sum, looked_on;
u64 first_enqueued, second_enqueued;

static void look_into(u32 i)
{
	u64 *value = bpf_map_lookup_elem(&maps, &i);
	void *queue = bpf_map_lookup_elem(&queues, &i);

	if (value)
		inner_maps++;
	if (queue && !bpf_map_push_elem(queue, &i, 0))
		inner_queues++;
}

SEC("syscall")
int look(void *ctx)
{
	u32 key = 7, at = 2, i;
	struct layer *layer = bpf_map_lookup_elem(&layers, &key);
	u64 *value = bpf_map_lookup_elem(&sized, &at), *array = long_array;

	if (layer) {
		layer_weight = layer->weight;
		layer_mask = layer->mask;
	}
	if (value)
		sized_at_2 = *value + 1;
	for (i = 0; i < 4; i++)
		list_sum += list[i];
	for (i = 0; i < 8; i++)
		look_into(i);
	/* The compiler must not think that there is one only. */
	barrier_var(array);
	for (i = 0; i < nr_long && i < 64; i++)
		long_sum += array[i];
	/* One more, as 0 is what nobody has looked at. */
	looked_on = 1 + bpf_get_smp_processor_id();
	return inner_maps;
}

void scx_bpf_no_such_function(void) __ksym __weak;

/* What no kernel has: to load it is an error there, and to reach it on the engine. */
SEC("?syscall")
int reach(void *ctx)
{
	scx_bpf_no_such_function();
	return 0;
}

void BPF_STRUCT_OPS(first_enqueue, struct task_struct *p, u64 enq_flags)
{
	first_enqueued++;
	scx_bpf_dsq_insert(p, SCX_DSQ_GLOBAL, SCX_SLICE_DFL, enq_flags);
}

void BPF_STRUCT_OPS(second_enqueue, struct task_struct *p, u64 enq_flags)
{
	second_enqueued++;
	scx_bpf_dsq_insert(p, SCX_DSQ_GLOBAL, SCX_SLICE_DFL, enq_flags);
}

void BPF_STRUCT_OPS(either_exit, struct scx_exit_info *info)
{
	uei_record(info);
}

SEC(".struct_ops.link")
struct sched_ext_ops first_ops = {
	.enqueue = (void *)first_enqueue,
	.exit = (void *)either_exit,
	.name = "first",
};

SEC(".struct_ops.link")
struct sched_ext_ops second_ops = {
	.enqueue = (void *)second_enqueue,
	.exit = (void *)either_exit,
	.timeout_ms = 5000,
	.name = "second",
};
