// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Observation of what changes the kernel or a workload's view of it: mounts, modules, BPF, io_uring. See probes.bpf.c for how
 * calls come here and record.h for where each field comes from.
 *
 * Of io_uring a request is seen as the kernel has taken it in (the name is the kernel's own copy), and not what comes of it:
 * the tracepoint of completion knows no request of that kind. Names of requests are there from Linux 5.15; where the kernel
 * keeps them otherwise the record has the operation and the descriptor alone.
 */
#include "emit_calls.h"
#include "fold.h"
#include "observe.h"

char _license[] SEC("license") = "GPL";

/* ---- mounts ---- */


/* Where the names of a mount call stand; 7: it has none. */
static __always_inline void pal_mount_names(__u32 operation, __u32 *source, __u32 *target, __u32 *filesystem, __u32 *flags,
					    __u32 *directory)
{
	*source = 7;
	*target = 7;
	*filesystem = 7;
	*flags = 7;
	*directory = 7;
	switch (operation) {
	case PAL_MOUNT_MOUNT:
		*source = 0;
		*target = 1;
		*filesystem = 2;
		*flags = 3;
		break;
	case PAL_MOUNT_UMOUNT:
		*target = 0;
		*flags = 1;
		break;
	case PAL_MOUNT_PIVOT_ROOT:
		*source = 0;
		*target = 1;
		break;
	case PAL_MOUNT_MOVE_MOUNT:
		*source = 1;
		*directory = 2;
		*target = 3;
		*flags = 4;
		break;
	case PAL_MOUNT_OPEN_TREE:
	case PAL_MOUNT_FSPICK:
	case PAL_MOUNT_SETATTR:
		*directory = 0;
		*target = 1;
		*flags = 2;
		break;
	case PAL_MOUNT_FSOPEN:
		*filesystem = 0;
		*flags = 1;
		break;
	case PAL_MOUNT_FSCONFIG:
		*source = 2;
		*flags = 1;
		break;
	case PAL_MOUNT_FSMOUNT:
		*flags = 1;
		break;
	default: /* chroot */
		*target = 0;
		break;
	}
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_mount, struct pt_regs *regs, long result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 source, target, filesystem, flags, directory;
	struct pal_record_buffer *buffer;
	struct pal_record_mount *body;
	struct pal_subject subject;
	struct pal_call call;

	if (!pal_observes(&subject, PAL_RECORD_MOUNT))
		return 0;
	pal_call_read(&call, regs, result);
	buffer = pal_record_take(PAL_RECORD_MOUNT, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_MOUNT, &subject);
	pal_describe_call(pal_record_head_of(buffer), regs);
	pal_mount_names(call.variant, &source, &target, &filesystem, &flags, &directory);
	__builtin_memset(body, 0, sizeof(*body));
	body->operation = call.variant;
	body->flags = pal_argument(&call, flags, 0);
	if (call.compat && pal_call_number(regs, true) == PAL_OLD_UMOUNT)
		body->flags = 0;
	body->result = result;
	pal_append_name(buffer, &body->source, pal_argument(&call, source, 0));
	pal_append_name(buffer, &body->filesystem, pal_argument(&call, filesystem, 0));
	if (call.variant == PAL_MOUNT_CHROOT && result == 0) {
		pal_append_path(buffer, &body->target, (__u64)task->fs->root.mnt, (__u64)task->fs->root.dentry);
	} else if (target != 7) {
		pal_append_name(buffer, &body->target, pal_argument(&call, target, 0));
		pal_append_base(buffer, &body->base, &body->target, pal_argument(&call, directory, (__u64)PAL_AT_FDCWD));
	}
	pal_observed(buffer, &subject, PAL_RECORD_MOUNT);
	return 0;
}

/* ---- modules ---- */

/* A kernel that is to be started next comes by a descriptor too, but only in one of the two calls. */
static __always_inline bool pal_module_has_file(struct pt_regs *regs, __u32 operation)
{
	if (operation == PAL_MODULE_KEXEC)
		return !pal_in_compat() && pal_call_number(regs, false) == PAL_KEXEC_FILE_LOAD;
	return operation == PAL_MODULE_FINIT;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_module_call, struct pt_regs *regs, long result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_record_buffer *buffer;
	struct pal_record_module *body;
	struct pal_subject subject;
	struct pal_call call;
	__u64 file = 0;

	if (!pal_observes(&subject, PAL_RECORD_MODULE))
		return 0;
	pal_call_read(&call, regs, result);
	buffer = pal_record_take(PAL_RECORD_MODULE, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_MODULE, &subject);
	pal_describe_call(pal_record_head_of(buffer), regs);
	__builtin_memset(body, 0, sizeof(*body));
	body->operation = call.variant;
	body->result = result;
	if (call.variant == PAL_MODULE_DELETE) {
		body->flags = call.arguments[1];
		pal_append_name(buffer, &body->name, call.arguments[0]);
	}
	if (call.variant == PAL_MODULE_FINIT)
		body->flags = call.arguments[2];
	if (pal_module_has_file(regs, call.variant)) {
		file = pal_file_of_descriptor(task, call.arguments[0]);
		if (file)
			pal_append_file(buffer, &body->path, file);
		else
			pal_span_set(&body->path, 0, 0, PAL_SPAN_UNREADABLE);
	}
	pal_observed(buffer, &subject, PAL_RECORD_MODULE);
	return 0;
}

/* Needs a kernel with modules; without it a module that a call loads from memory has no name. */
SEC("tp_btf/module_load")
int BPF_PROG(observe_module, struct module *module)
{
	struct pal_record_buffer *buffer;
	struct pal_record_module *body;
	struct pal_subject subject;

	if (!pal_observes(&subject, PAL_RECORD_MODULE))
		return 0;
	buffer = pal_record_take(PAL_RECORD_MODULE, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_MODULE, &subject);
	__builtin_memset(body, 0, sizeof(*body));
	body->operation = PAL_MODULE_LOADED;
	pal_append_kernel_string(buffer, &body->name, module->name, sizeof(module->name));
	pal_observed(buffer, &subject, PAL_RECORD_MODULE);
	return 0;
}

/* ---- BPF ---- */

#define PAL_BPF_MAP_CREATE 0
#define PAL_BPF_PROG_LOAD 5

static __always_inline void pal_describe_program(struct pal_record_buffer *buffer, struct pal_record_bpf *body, __u64 file)
{
	struct bpf_prog *program = (struct bpf_prog *)BPF_CORE_READ((struct file *)file, private_data);
	struct bpf_prog_aux *aux = BPF_CORE_READ(program, aux);

	body->object_type = BPF_CORE_READ(program, type);
	body->object_id = BPF_CORE_READ(aux, id);
	pal_append_kernel_string(buffer, &body->name, (void *)aux + bpf_core_field_offset(struct bpf_prog_aux, name), 16);
}

static __always_inline void pal_describe_map(struct pal_record_buffer *buffer, struct pal_record_bpf *body, __u64 file)
{
	struct bpf_map *map = (struct bpf_map *)BPF_CORE_READ((struct file *)file, private_data);

	body->object_type = BPF_CORE_READ(map, map_type);
	body->object_id = BPF_CORE_READ(map, id);
	pal_append_kernel_string(buffer, &body->name, (void *)map + bpf_core_field_offset(struct bpf_map, name), 16);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_bpf, struct pt_regs *regs, long result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_record_buffer *buffer;
	struct pal_record_bpf *body;
	struct pal_subject subject;
	struct pal_call call;
	__u32 command;
	__u64 file = 0;

	if (!pal_observes(&subject, PAL_RECORD_BPF))
		return 0;
	pal_call_read(&call, regs, result);
	command = call.arguments[0];
	buffer = pal_record_take(PAL_RECORD_BPF, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_BPF, &subject);
	__builtin_memset(body, 0, sizeof(*body));
	body->command = command;
	body->result = result;
	if (command == PAL_BPF_MAP_CREATE || command == PAL_BPF_PROG_LOAD) {
		if (result >= 0)
			file = pal_file_of_descriptor(task, result);
		if (!file) { /* both attributes begin with the type */
			body->flags = PAL_BPF_USER;
			bpf_probe_read_user(&body->object_type, sizeof(body->object_type), (const void *)call.arguments[1]);
		} else if (command == PAL_BPF_PROG_LOAD) {
			pal_describe_program(buffer, body, file);
		} else {
			pal_describe_map(buffer, body, file);
		}
	}
	pal_observed(buffer, &subject, PAL_RECORD_BPF);
	return 0;
}

/* ---- io_uring ---- */

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_io_uring, struct pt_regs *regs, long result)
{
	struct pal_record_buffer *buffer;
	struct pal_record_io_uring *body;
	struct pal_subject subject;
	struct pal_call call;

	if (!pal_observes(&subject, PAL_RECORD_IO_URING))
		return 0;
	pal_call_read(&call, regs, result);
	buffer = pal_record_take(PAL_RECORD_IO_URING, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_IO_URING, &subject);
	__builtin_memset(body, 0, sizeof(*body));
	body->result = result;
	if (call.variant == PAL_VARIANT_REGISTER) {
		body->operation = PAL_IO_URING_REGISTER;
		body->descriptor = call.arguments[0];
		body->flags = call.arguments[1];
	} else { /* struct io_uring_params: two sizes, then the flags */
		body->operation = PAL_IO_URING_SETUP;
		body->descriptor = result < 0 ? -1 : result;
		bpf_probe_read_user(&body->flags, sizeof(body->flags), (const void *)call.arguments[1] + 8);
	}
	pal_observed(buffer, &subject, PAL_RECORD_IO_URING);
	return 0;
}

#define PAL_REQUEST_FIXED_FILE 1u /* IOSQE_FIXED_FILE, kept as REQ_F_FIXED_FILE: the number is of the ring's own table */

/* Operations (by number, up to LISTEN of 6.11) whose descriptor the kernel keeps with the request. */
#define PAL_REQUESTS_WITH_FILE                                                                                                \
	(1ull << 1 | 1ull << 2 | 1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 8 | 1ull << 9 | 1ull << 10 |         \
	 1ull << 13 | 1ull << 16 | 1ull << 17 | 1ull << 22 | 1ull << 23 | 1ull << 24 | 1ull << 26 | 1ull << 27 | 1ull << 30 | \
	 1ull << 34 | 1ull << 40 | 1ull << 41 | 1ull << 43 | 1ull << 46 | 1ull << 47 | 1ull << 48 | 1ull << 49 | 1ull << 54 | \
	 1ull << 55 | 1ull << 56 | 1ull << 57)

/*
 * The name that an operation has prepared, and the directory that it starts from; 0 where it has none, or the kernel keeps it
 * otherwise.
 */
static __always_inline __u64 pal_request_name(struct io_kiocb *request, __u32 opcode, __s32 *directory)
{
	void *prepared = (void *)request + bpf_core_field_offset(struct io_kiocb, file);
	__u64 name = 0;
	__u32 at = 0, start = 0;

	switch (opcode) {
	case 18: /* OPENAT */
	case 28: /* OPENAT2 */
		if (bpf_core_field_exists(struct io_open, filename))
			at = bpf_core_field_offset(struct io_open, filename), start = bpf_core_field_offset(struct io_open, dfd);
		break;
	case 35: /* RENAMEAT */
		if (bpf_core_field_exists(struct io_rename, oldpath))
			at = bpf_core_field_offset(struct io_rename, oldpath), start = bpf_core_field_offset(struct io_rename, old_dfd);
		break;
	case 36: /* UNLINKAT */
		if (bpf_core_field_exists(struct io_unlink, filename))
			at = bpf_core_field_offset(struct io_unlink, filename), start = bpf_core_field_offset(struct io_unlink, dfd);
		break;
	case 37: /* MKDIRAT */
		if (bpf_core_field_exists(struct io_mkdir, filename))
			at = bpf_core_field_offset(struct io_mkdir, filename), start = bpf_core_field_offset(struct io_mkdir, dfd);
		break;
	default:
		break;
	}
	if (!at)
		return 0;
	bpf_probe_read_kernel(&name, sizeof(name), prepared + at);
	bpf_probe_read_kernel(directory, sizeof(*directory), prepared + start);
	return name ? (__u64)BPF_CORE_READ((struct filename *)name, name) : 0;
}

/*
 * A request as the kernel has taken it in, by whichever task submits: the caller, or the ring's own thread, which is what its
 * process is. The tracepoint is io_uring_submit_req from 6.3, io_uring_submit_sqe before.
 */
SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(observe_request, struct io_kiocb *request)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_record_buffer *buffer;
	struct pal_record_io_uring *body;
	struct pal_subject subject;
	__s32 descriptor = -1;
	__u64 name, file = 0;

	if (!pal_wanted_anywhere(PAL_RECORD_IO_URING) || !pal_observes(&subject, PAL_RECORD_IO_URING))
		return 0;
	buffer = pal_record_take(PAL_RECORD_IO_URING, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_IO_URING, &subject);
	__builtin_memset(body, 0, sizeof(*body));
	body->operation = PAL_IO_URING_SUBMIT;
	body->opcode = BPF_CORE_READ(request, opcode);
	body->flags = BPF_CORE_READ(request, flags);
	if (body->opcode < 64 && PAL_REQUESTS_WITH_FILE >> body->opcode & 1)
		descriptor = BPF_CORE_READ(request, cqe.fd);
	name = pal_request_name(request, body->opcode, &descriptor);
	body->descriptor = descriptor;
	if (name)
		pal_append_kernel_string(buffer, &body->path, (const void *)name, PAL_STRING_MAX);
	if (!(body->flags & PAL_REQUEST_FIXED_FILE) && descriptor >= 0)
		file = pal_file_of_descriptor(task, descriptor);
	if (file)
		pal_append_file(buffer, &body->file, file);
	pal_observed(buffer, &subject, PAL_RECORD_IO_URING);
	return 0;
}
