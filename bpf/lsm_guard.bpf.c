// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Palisade's protection of itself on BPF LSM hooks: a workload reaches neither the node's maps and programs, nor its links, nor its
 * process; guard.h says who is a workload here, lsm.h what the hooks need.
 *
 * Each hook looks first whether the object is Palisade's, which it hardly ever is, and only then who acts.
 *
 * A map or program is kept by its descriptor, which every way to it ends in: by id, by pin, by creation. What the node itself gets a
 * descriptor of is its own from then on, so that maps which are made later (blobs) need no telling. A link's descriptor has no
 * hook: it is refused by id, and of a pin it may be had, by who sees the file system, but neither detaches nor updates the link.
 *
 * Gaps: a workload with a second thread may put the descriptor of a pinned cgroup link into the place of another one between this
 * look and the kernel's own, which is by the number again, and no hook has the link; each try that fails is told. A workload that may
 * load tracing programs, modules, or another kernel is root of the machine: programs can send signals and override calls without any
 * hook. What a node writes or reads of files is no part of this, nor are /proc/<pid>/oom_score_adj and its likes.
 *
 * A move into a cgroup has no hook, but for that of the scheduler, which 6.1 asks where the cgroups' processors are told apart, as
 * containers' are: who may write the host's cgroups may move the node into one that it has made. There the node is what it was
 * (identity.bpf.c), and no file of that cgroup is opened to be written from then on; by those that were open before it can still be
 * frozen and killed. Nor has clone3(2) one, by which a child that begins in the node's cgroup spends what the node has. Of cgroups of
 * version 1 nothing is guarded (`palisade doctor` says which). mount_setattr(2) has no hook: in the host's mounts, or the node's, it
 * makes the pins' mount read-only.
 */
#include "guard.h"
#include "emit_calls.h"
#include "own_file.h"

char LICENSE[] SEC("license") = "GPL";

/* enum bpf_cmd */
#define PAL_BPF_LINK_UPDATE 29
#define PAL_BPF_LINK_GET_FD_BY_ID 30
#define PAL_BPF_LINK_DETACH 34

#define PAL_PTRACE_MODE_ATTACH 2
#define PAL_PTRACE_ATTACH_REQUEST 16

/* ---- maps, programs, links ---- */

static __always_inline void pal_remember(__u32 kind, __u64 id)
{
	struct pal_guarded key = { .id = id, .kind = kind };
	__u64 value = 1;

	if (bpf_map_update_elem(&guarded, &key, &value, BPF_ANY))
		pal_count(PAL_COUNTER_GUARDED_FULL);
}

/* `name`: the address of the object's own, 0 where it has none. */
static __noinline int pal_tell_bpf(const struct pal_subject *subject, __u32 command, __u32 type, __u32 id, __u64 name)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_BPF, sizeof(struct pal_record_bpf));
	struct pal_record_bpf *body;
	struct pal_verdict verdict;

	if (!buffer)
		return 0;
	pal_guard_verdict(&verdict, PAL_FAMILY_SYSCALL);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_BPF, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, &verdict);
	body = pal_record_body_of(buffer);
	__builtin_memset(body, 0, sizeof(*body));
	body->command = command;
	body->object_type = type;
	body->object_id = id;
	body->result = -PAL_EPERM;
	if (name)
		pal_append_kernel_string(buffer, &body->name, (const void *)name, sizeof(((struct bpf_map *)0)->name));
	else
		pal_span_set(&body->name, 0, 0, 0);
	pal_record_send(buffer);
	return 0;
}

/* The first argument of bpf(2), by which a descriptor is asked for. */
static __always_inline __u32 pal_bpf_command(void)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());

	return pal_first_argument(regs, pal_in_compat());
}

SEC("lsm/bpf_map")
int BPF_PROG(guard_map, struct bpf_map *map, unsigned int mode, int earlier)
{
	struct pal_subject subject;
	__u32 id = map->id;

	if (earlier)
		return earlier;
	if (!pal_guarded_value(PAL_GUARDED_MAP, id)) {
		if (pal_is_own_process(bpf_get_current_task_btf()))
			pal_remember(PAL_GUARDED_MAP, id);
		return 0;
	}
	if (!pal_is_held_off(&subject))
		return 0;
	pal_tell_bpf(&subject, pal_bpf_command(), map->map_type, id,
		     (__u64)map + bpf_core_field_offset(struct bpf_map, name));
	return pal_guard_answer();
}

SEC("lsm/bpf_prog")
int BPF_PROG(guard_program, struct bpf_prog *program, int earlier)
{
	struct pal_subject subject;
	__u32 id = program->aux->id;

	if (earlier)
		return earlier;
	if (!pal_guarded_value(PAL_GUARDED_PROGRAM, id)) {
		if (pal_is_own_process(bpf_get_current_task_btf()))
			pal_remember(PAL_GUARDED_PROGRAM, id);
		return 0;
	}
	if (!pal_is_held_off(&subject))
		return 0;
	pal_tell_bpf(&subject, pal_bpf_command(), program->type, id,
		     (__u64)program->aux + bpf_core_field_offset(struct bpf_prog_aux, name));
	return pal_guard_answer();
}

/* The id of one of Palisade's links behind a descriptor of the task; 0: it is none. Of another file's memory nothing is taken for a link
 * but what has the number and the program of one. */
static __always_inline __u32 pal_own_link(__u32 descriptor)
{
	struct file *file = (struct file *)pal_own_file(descriptor);
	struct bpf_link *link;
	__u32 id;

	if (!file)
		return 0;
	link = (struct bpf_link *)BPF_CORE_READ(file, private_data);
	if (!link)
		return 0;
	id = BPF_CORE_READ(link, id);
	if (!pal_guarded_value(PAL_GUARDED_LINK, id) && !pal_guarded_value(PAL_GUARDED_PROGRAM, BPF_CORE_READ(link, prog, aux, id)))
		return 0;
	return id;
}

/*
 * The attribute is the kernel's copy, and begins with the link's id or descriptor. From 6.15 on the hook has a further argument: an
 * earlier answer is not looked at, for after one that is no the kernel calls nobody.
 */
SEC("lsm/bpf")
int BPF_PROG(guard_link, int command, void *attribute)
{
	struct pal_subject subject;
	__u32 word = 0, id;

	if (command != PAL_BPF_LINK_GET_FD_BY_ID && command != PAL_BPF_LINK_UPDATE && command != PAL_BPF_LINK_DETACH)
		return 0;
	bpf_probe_read_kernel(&word, sizeof(word), attribute);
	if (command == PAL_BPF_LINK_GET_FD_BY_ID)
		id = pal_guarded_value(PAL_GUARDED_LINK, word) ? word : 0;
	else
		id = pal_own_link(word);
	if (!id || !pal_is_held_off(&subject))
		return 0;
	pal_tell_bpf(&subject, command, 0, id, 0);
	return pal_guard_answer();
}

/* ---- processes ---- */

struct pal_guard_signal {
	struct pal_record_head head;
	struct pal_record_signal body;
};

static __noinline int pal_tell_signal(const struct pal_subject *subject, struct task_struct *target, __u32 signal)
{
	struct pal_guard_signal *record;
	struct pal_verdict verdict;
	struct pal_ticket ticket;

	record = pal_reserve(&ticket, PAL_RECORD_SIGNAL, sizeof(*record));
	if (!record)
		return 0;
	pal_guard_verdict(&verdict, PAL_FAMILY_PTRACE);
	pal_describe(&record->head, PAL_RECORD_SIGNAL, subject);
	pal_describe_verdict(&record->head, subject, &verdict);
	__builtin_memset(&record->body, 0, sizeof(record->body));
	record->body.signal = signal;
	record->body.result = -PAL_EPERM;
	record->body.asked = target->tgid;
	record->body.target_tgid = target->tgid;
	record->body.target_tid = target->pid;
	record->body.target_start_ns = target->group_leader->start_boottime;
	pal_submit(&ticket, &record->head, sizeof(*record));
	return 0;
}

/* Of signals that a task sends; whether it is to be there (0) everybody may ask. */
SEC("lsm/task_kill")
int BPF_PROG(guard_signal, struct task_struct *target, struct kernel_siginfo *info, int signal, const struct cred *credentials,
	     int earlier)
{
	struct pal_subject subject;

	if (earlier || !signal || !pal_is_own_process(target) || !pal_is_held_off(&subject))
		return earlier;
	pal_tell_signal(&subject, target, signal);
	return pal_guard_answer();
}

/*
 * A file whose owner is to be told by a signal (F_SETOWN, F_SETSIG), SIGKILL among them. Whoever's file it is: a node asks none to
 * signal it. Who has brought it about is not the current task, so that it is counted and told by nobody.
 */
SEC("lsm/file_send_sigiotask")
int BPF_PROG(guard_file_signal, struct task_struct *target, void *owner, int signal, int earlier)
{
	if (earlier || !pal_is_own_process(target))
		return earlier;
	return pal_guard_answer();
}

static __noinline int pal_tell_tracing(const struct pal_subject *subject, struct task_struct *target)
{
	struct pal_text path = { .flags = PAL_SPAN_UNREADABLE };
	struct pal_target about;
	struct pal_verdict verdict;

	pal_guard_verdict(&verdict, PAL_FAMILY_PTRACE);
	about.request = PAL_PTRACE_ATTACH_REQUEST;
	about.tgid = target->tgid;
	about.tid = target->pid;
	about.slot = 0;
	about.start_ns = target->group_leader->start_boottime;
	pal_emit_ptrace(subject, &path, &about, &verdict);
	return 0;
}

/* Attaching, process_vm_* and /proc/<pid>/mem, pidfd_getfd(2). Looking at it, as monitors of processes do, is left alone. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(guard_tracing, struct task_struct *target, unsigned int mode, int earlier)
{
	struct pal_subject subject;

	if (earlier || !(mode & PAL_PTRACE_MODE_ATTACH) || !pal_is_own_process(target) || !pal_is_held_off(&subject))
		return earlier;
	pal_tell_tracing(&subject, target);
	return pal_guard_answer();
}

/* By the call's own number and arguments, as its registers hold them. */
static __noinline int pal_tell_call(const struct pal_subject *subject)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct pal_verdict verdict;

	pal_guard_verdict(&verdict, PAL_FAMILY_SYSCALL);
	pal_emit_syscall(subject, regs, -PAL_EPERM, bpf_ktime_get_boot_ns(), &verdict);
	return 0;
}

/* What slows it down, or takes away what it needs. */
static __always_inline int pal_guard_standing(struct task_struct *target)
{
	struct pal_subject subject;

	if (!pal_is_own_process(target) || !pal_is_held_off(&subject))
		return 0;
	pal_tell_call(&subject);
	return pal_guard_answer();
}

SEC("lsm/task_setrlimit")
int BPF_PROG(guard_limits, struct task_struct *target, unsigned int resource, void *limits, int earlier)
{
	return earlier ? earlier : pal_guard_standing(target);
}

SEC("lsm/task_setscheduler")
int BPF_PROG(guard_scheduler, struct task_struct *target, int earlier)
{
	return earlier ? earlier : pal_guard_standing(target);
}

SEC("lsm/task_setnice")
int BPF_PROG(guard_nice, struct task_struct *target, int nice, int earlier)
{
	return earlier ? earlier : pal_guard_standing(target);
}

SEC("lsm/task_setioprio")
int BPF_PROG(guard_io_priority, struct task_struct *target, int priority, int earlier)
{
	return earlier ? earlier : pal_guard_standing(target);
}

SEC("lsm/task_movememory")
int BPF_PROG(guard_memory, struct task_struct *target, int earlier)
{
	return earlier ? earlier : pal_guard_standing(target);
}

/* ---- the pins' file system ---- */

/* All mounts of it are one: read-only, it takes no pins. */
SEC("lsm/sb_remount")
int BPF_PROG(guard_remount, struct super_block *file_system, void *options, int earlier)
{
	struct pal_subject subject;

	if (earlier || file_system->s_magic != PAL_BPF_FS_MAGIC || !pal_place_value((__u64)BPF_CORE_READ(file_system, s_root)) ||
	    !pal_is_held_off(&subject))
		return earlier;
	pal_tell_call(&subject);
	return pal_guard_answer();
}

/* ---- the node says who it is ---- */

/* Never attached: the node runs it by BPF_PROG_TEST_RUN, and unloads it. */
SEC("raw_tp/sys_enter")
int enter_guard(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_guarded process = { .id = task->tgid, .kind = PAL_GUARDED_PROCESS };
	struct pal_guarded home = { .kind = PAL_GUARDED_HOME };
	__u64 start = task->group_leader->start_boottime, cgroup = pal_cgroup_of_task(task);
	struct pal_subject subject;

	if (pal_is_held_off(&subject))
		return -PAL_EPERM;
	if (bpf_map_update_elem(&guarded, &process, &start, BPF_ANY) || bpf_map_update_elem(&guarded, &home, &cgroup, BPF_ANY))
		return -PAL_ENOSPC;
	return pal_remember_cgroups(task);
}
