// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * For tests only, never attached: the very functions that the hooks call, driven by BPF_PROG_TEST_RUN, so that the walk and
 * the climb are checked on any kernel, also where LSM programs cannot be attached.
 */
#define PAL_JUDGES_MOVES
#include "decide.h"
#include "own_file.h"

char LICENSE[] SEC("license") = "GPL";

struct pal_check {
	__u32 length; /* in and out: of `bytes` */
	__u32 naming;
	__u32 accept; /* in: of what has a number */
	__u32 source;
	__u32 word;
	__u32 accept_name; /* of the last component */
	__u8 bytes[PAL_PATH_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pal_check);
} check SEC(".maps");

/* Records are built through pointers on the stack, which BTF does not describe: here they are named once for the layout test. */
struct pal_record_bodies {
	struct pal_record_exec exec;
	struct pal_record_fork fork;
	struct pal_record_exit exit;
	struct pal_record_open open;
	struct pal_record_network network;
	struct pal_record_ptrace ptrace;
	struct pal_record_file_change file_change;
	struct pal_record_mount mount;
	struct pal_record_credentials credentials;
	struct pal_record_signal signal;
	struct pal_record_module module;
	struct pal_record_bpf bpf;
	struct pal_record_namespace namespace;
	struct pal_record_memfd memfd;
	struct pal_record_io_uring io_uring;
	struct pal_record_process_access process_access;
	struct pal_record_dns dns;
	struct pal_record_capability capability;
	struct pal_record_syscall syscall;
	struct pal_record_folded folded;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pal_record_bodies);
} record_bodies SEC(".maps");

static __always_inline struct pal_check *pal_check_of(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&check, &first);
}

/* The bytes to judge, to where a climb would have put them. */
static __always_inline __u32 pal_take_bytes(struct pal_check *check, struct pal_scratch *scratch)
{
	__u32 length = check->length;
	__u32 start;

	if (length > PAL_PATH_SIZE)
		length = PAL_PATH_SIZE;
	start = PAL_PATH_SIZE - length;
	pal_opaque(start);
	if (start >= PAL_PATH_SIZE)
		return PAL_PATH_SIZE;
	for (__u32 done = 0; done < PAL_PATH_SIZE / 128; done++) {
		__u32 to = start + done * 128;

		pal_opaque(to);
		if (to >= PAL_PATH_SIZE)
			break;
		bpf_probe_read_kernel(scratch->path + to, 128, check->bytes + (done * 128));
	}
	return start;
}

/* The endpoint in check->bytes, made canonical and spelt as the hooks do. */
static __always_inline __u32 pal_take_endpoint(struct pal_check *check, struct pal_scratch *scratch)
{
	struct pal_act act = { .scratch = scratch };
	struct pal_endpoint endpoint;

	endpoint.len = check->length;
	bpf_probe_read_kernel(endpoint.bytes, sizeof(endpoint.bytes), check->bytes);
	pal_endpoint_canonical(&act, &endpoint);
	return pal_spell_endpoint(scratch, act.endpoint_length);
}

#define PAL_CHECK(NAME)                                                                                                       \
	pal_function int pal_check_path_##NAME(struct pal_check *check, struct pal_scratch *scratch, __u32 policy,            \
					       __u32 family, __u32 modifiers)                                                 \
	{                                                                                                                     \
		struct pal_blob_##NAME *blob = pal_blob_of_##NAME(policy);                                                    \
		__u32 accepts[2];                                                                                             \
                                                                                                                              \
		if (!blob)                                                                                                    \
			return -PAL_EINVAL;                                                                                   \
		pal_accept_path_##NAME(blob, scratch, pal_take_bytes(check, scratch), accepts);                               \
		check->accept = accepts[0];                                                                                   \
		check->accept_name = accepts[1];                                                                              \
		check->word = pal_decide_path_##NAME(blob, family, accepts, check->source, modifiers);                        \
		return 0;                                                                                                     \
	}                                                                                                                     \
                                                                                                                              \
	pal_function int pal_check_other_##NAME(struct pal_check *check, struct pal_scratch *scratch, __u32 policy,           \
						__u32 family, __u32 modifiers)                                                \
	{                                                                                                                     \
		struct pal_blob_##NAME *blob = pal_blob_of_##NAME(policy);                                                    \
		__u32 start;                                                                                                  \
                                                                                                                              \
		if (!blob)                                                                                                    \
			return -PAL_EINVAL;                                                                                   \
		if (family <= PAL_FAMILY_CONNECT) {                                                                           \
			start = pal_take_endpoint(check, scratch);                                                            \
			check->accept = pal_walk_##NAME(blob, scratch, PAL_AUTOMATON_NETWORK, start);                         \
		} else if (family == PAL_FAMILY_DNS) {                                                                        \
			start = pal_take_bytes(check, scratch);                                                               \
			check->accept = pal_walk_##NAME(blob, scratch, PAL_AUTOMATON_NAME, start);                            \
		}                                                                                                             \
		check->accept_name = 0;                                                                                       \
		check->word = pal_decide_##NAME(blob, family, check->accept, check->source, modifiers);                       \
		return 0;                                                                                                     \
	}

PAL_CHECK(16k)
PAL_CHECK(128k)
PAL_CHECK(1m)
PAL_CHECK(8m)

#define PAL_CHECK_PROGRAM(CHECK)                                                                                              \
	__u32 policy = context->args[0], family = context->args[1], modifiers = context->args[2];                             \
	struct pal_scratch *scratch = pal_scratch_take();                                                                     \
	struct pal_check *check = pal_check_of();                                                                             \
	int result = -PAL_EINVAL;                                                                                             \
                                                                                                                              \
	if (!scratch)                                                                                                         \
		return -PAL_ENOSPC;                                                                                           \
	if (check) {                                                                                                          \
		switch (PAL_POLICY_CLASS(policy)) {                                                                           \
		case 0:                                                                                                       \
			result = CHECK##_16k(check, scratch, policy, family, modifiers);                                      \
			break;                                                                                                \
		case 1:                                                                                                       \
			result = CHECK##_128k(check, scratch, policy, family, modifiers);                                     \
			break;                                                                                                \
		case 2:                                                                                                       \
			result = CHECK##_1m(check, scratch, policy, family, modifiers);                                       \
			break;                                                                                                \
		default:                                                                                                      \
			result = CHECK##_8m(check, scratch, policy, family, modifiers);                                       \
			break;                                                                                                \
		}                                                                                                             \
	}                                                                                                                     \
	pal_scratch_put(scratch);                                                                                             \
	return result;

/* (policy, family, modifiers): judges the path in check->bytes under check->source. */
SEC("raw_tp/sys_enter")
int check_decision(struct bpf_raw_tracepoint_args *context)
{
	PAL_CHECK_PROGRAM(pal_check_path)
}

/* The same for endpoints, domain names, and what has a number: check->accept. */
SEC("raw_tp/sys_enter")
int check_other_decision(struct bpf_raw_tracepoint_args *context)
{
	PAL_CHECK_PROGRAM(pal_check_other)
}

/* (policy): of the directory in check->bytes the state of what is below it, in check->word, and what is denied there, in check->accept. */
SEC("raw_tp/sys_enter")
int check_below(struct bpf_raw_tracepoint_args *context)
{
	struct pal_subject subject = { .policy = context->args[0] };
	struct pal_scratch *scratch = pal_scratch_take();
	struct pal_check *check = pal_check_of();
	struct pal_act act = { .subject = &subject, .scratch = scratch };
	__u64 below;

	if (!scratch)
		return -PAL_ENOSPC;
	if (check) {
		below = pal_match_below(&act, pal_take_bytes(check, scratch));
		check->word = PAL_BELOW_STATE(below);
		check->accept = PAL_BELOW_ACCEPT(below);
	}
	pal_scratch_put(scratch);
	return check ? 0 : -PAL_EINVAL;
}

/* (policy): what the argument in check->bytes is to the argument set of check->word; the answer is in check->accept. */
SEC("raw_tp/sys_enter")
int check_argument(struct bpf_raw_tracepoint_args *context)
{
	struct pal_subject subject = { .policy = context->args[0] };
	struct pal_scratch *scratch = pal_scratch_take();
	struct pal_check *check = pal_check_of();
	struct pal_act act = { .subject = &subject, .scratch = scratch };

	if (!scratch)
		return -PAL_ENOSPC;
	if (check) {
		act.word = check->word;
		check->accept = pal_match_argument(&act, pal_take_bytes(check, scratch));
	}
	pal_scratch_put(scratch);
	return check ? 0 : -PAL_EINVAL;
}

static __always_inline void pal_give_path(struct pal_check *check, struct pal_scratch *scratch, __u32 start)
{
	check->length = PAL_PATH_SIZE - start;
	bpf_probe_read_kernel(check->bytes, PAL_PATH_SIZE, scratch->path);
}

/* (descriptor, slot, checked): names the caller's open file by plain addresses. */
SEC("raw_tp/sys_enter")
int check_climb(struct bpf_raw_tracepoint_args *context)
{
	struct file *file = (struct file *)pal_own_file(context->args[0]);
	struct pal_scratch *scratch = pal_scratch_take();
	struct pal_check *check = pal_check_of();
	__u64 naming;

	if (!scratch)
		return -PAL_ENOSPC;
	if (check && file) {
		pal_put_place(scratch, (__u64)BPF_CORE_READ(file, f_path.mnt), (__u64)BPF_CORE_READ(file, f_path.dentry));
		naming = pal_name_place(scratch, context->args[1], context->args[2]);
		check->naming = PAL_NAMING_END(naming);
		pal_give_path(check, scratch, PAL_NAMING_START(naming));
	}
	pal_scratch_put(scratch);
	return check && file ? 0 : -PAL_EBADF;
}

/* (slot, checked): names the caller's working directory by typed pointers, as the hooks do. */
SEC("raw_tp/sys_enter")
int check_climb_typed(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct pal_scratch *scratch = pal_scratch_take();
	struct pal_check *check = pal_check_of();
	__u32 start = pal_veiled(PAL_PATH_SIZE);
	struct pal_object object;

	if (!scratch)
		return -PAL_ENOSPC;
	if (check) {
		object.mount = current->fs->pwd.mnt;
		object.dentry = current->fs->pwd.dentry;
		check->naming = pal_name_object(&object, scratch, context->args[0], context->args[1], &start);
		pal_give_path(check, scratch, start);
	}
	pal_scratch_put(scratch);
	return 0;
}

/* (family): the caller as the subject, its own executable as the object: the whole of a hook. */
SEC("raw_tp/sys_enter")
int check_own_executable(struct bpf_raw_tracepoint_args *context)
{
	struct pal_check *check = pal_check_of();
	struct pal_subject subject;
	struct pal_act act;

	pal_identify(&subject);
	if (!check || !pal_decides(&subject, context->args[0] & 15))
		return -PAL_EINVAL;
	pal_act_begin(&act, &subject, context->args[0] & 15);
	act.object.mount = act.actor->mm->exe_file->f_path.mnt;
	act.object.dentry = act.actor->mm->exe_file->f_path.dentry;
	pal_judge_file(&act);
	check->naming = act.naming;
	check->word = act.word;
	check->source = subject.kept ? subject.kept->source : 0;
	if (act.scratch)
		pal_give_path(check, act.scratch, act.start);
	pal_act_end(&act);
	return subject.slot;
}
