// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * The decisions as BPF LSM programs: the strongest tier.
 *
 * Needs Linux 5.17, CONFIG_BPF_LSM and `bpf` among the active LSMs: elsewhere these programs attach and never run, which is
 * why a test denial is tried first (selftest.bpf.c). Without them files and executables fall to fanotify, networks to the
 * cgroup programs, and tracing cannot be denied.
 *
 * In the RUNTIME phase only executables are judged, and of these only the container's own files: the container runtime's
 * work inside the cgroup is not the workload's.
 */
#include "report.h"

char LICENSE[] SEC("license") = "GPL";

/* Inode number of the host's mount namespace. Set before loading. */
const volatile __u32 pal_host_mnt_ns = 0;

#define PAL_PTRACE_MODE_ATTACH 2

/* Whose open is it, and is it judged at all? */
static __always_inline bool pal_is_judged(struct pal_subject *subject, __u32 family)
{
	pal_identify(subject);
	return pal_decides(subject, family);
}

static __always_inline __u32 pal_owner_modifier(struct inode *inode)
{
	return inode->i_uid.val == bpf_get_current_task_btf()->cred->fsuid.val ? PAL_MODIFIER_OWNER : 0;
}

SEC("lsm/bprm_check_security")
int BPF_PROG(judge_exec, struct linux_binprm *bprm, int earlier)
{
	struct file *file = bprm->file;
	struct pal_subject subject;
	struct pal_act act;
	int result;

	if (earlier || !pal_is_judged(&subject, PAL_FAMILY_PROCESS))
		return earlier;
	if (subject.phase == PAL_PHASE_RUNTIME && !pal_is_of_own_mounts(bpf_get_current_task_btf(), file, pal_host_mnt_ns))
		return 0;
	pal_act_begin(&act, &subject, PAL_FAMILY_PROCESS);
	act.object = file;
	act.modifiers = pal_owner_modifier(file->f_inode);
	pal_judge_file(&act);
	result = pal_outcome(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

/*
 * Opens on behalf of execve are the process family's matter, and a stacked file system's second open was judged when the
 * upper file was opened.
 */
static __always_inline bool pal_is_inner_open(struct file *file)
{
	return file->f_flags & PAL_FMODE_EXEC || file->f_mode & PAL_FMODE_NOACCOUNT;
}

static __always_inline __u32 pal_write_modifier(struct file *file)
{
	bool writes = file->f_mode & PAL_FMODE_WRITE || file->f_flags & (PAL_O_CREAT | PAL_O_TRUNC);

	return writes ? PAL_MODIFIER_WRITE : 0;
}

SEC("lsm/file_open")
int BPF_PROG(judge_open, struct file *file, int earlier)
{
	struct pal_subject subject;
	struct pal_act act;
	int result;

	if (earlier || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return earlier;
	if (subject.phase == PAL_PHASE_RUNTIME || pal_is_inner_open(file))
		return 0;
	pal_act_begin(&act, &subject, PAL_FAMILY_FILE);
	act.object = file;
	act.modifiers = pal_owner_modifier(file->f_inode) | pal_write_modifier(file);
	pal_judge_file(&act);
	result = pal_outcome(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

SEC("lsm/socket_create")
int BPF_PROG(judge_socket, int domain, int type, int protocol, int by_kernel, int earlier)
{
	struct pal_subject subject;
	struct pal_act act;
	int result;

	if (earlier || by_kernel || !pal_is_judged(&subject, PAL_FAMILY_SOCKET))
		return earlier;
	if (subject.phase == PAL_PHASE_RUNTIME)
		return 0;
	pal_act_begin(&act, &subject, PAL_FAMILY_SOCKET);
	if (act.scratch)
		pal_endpoint_begin(&act, domain, type, protocol);
	pal_judge_endpoint(&act);
	result = pal_outcome(&act, PAL_EPERM);
	pal_act_end(&act);
	return result;
}

/* `address` is the kernel's copy: no other thread can change it any more. */
static __always_inline void pal_connect_endpoint(struct pal_act *act, struct socket *socket, struct sockaddr *address, int length)
{
	struct pal_sockaddr_in6 v6 = {};
	struct pal_sockaddr_in v4 = {};
	__u16 domain = 0;

	if (length >= (int)sizeof(domain))
		bpf_probe_read_kernel(&domain, sizeof(domain), address);
	pal_endpoint_begin(act, domain, socket->sk->sk_type, socket->sk->sk_protocol);
	if (domain == PAL_AF_INET && length >= (int)sizeof(v4)) {
		bpf_probe_read_kernel(&v4, sizeof(v4), address);
		pal_endpoint_v4(act, v4.port, v4.address);
	} else if (domain == PAL_AF_INET6 && length >= PAL_SIN6_LEN_RFC2133) {
		bpf_probe_read_kernel(&v6, PAL_SIN6_LEN_RFC2133, address);
		pal_endpoint_v6(act, v6.port, v6.address);
	}
}

SEC("lsm/socket_connect")
int BPF_PROG(judge_connect, struct socket *socket, struct sockaddr *address, int length, int earlier)
{
	struct pal_subject subject;
	struct pal_act act;
	int result;

	if (earlier || !pal_is_judged(&subject, PAL_FAMILY_CONNECT))
		return earlier;
	if (subject.phase == PAL_PHASE_RUNTIME)
		return 0;
	pal_act_begin(&act, &subject, PAL_FAMILY_CONNECT);
	if (act.scratch)
		pal_connect_endpoint(&act, socket, address, length);
	pal_judge_endpoint(&act);
	result = pal_outcome(&act, PAL_EPERM);
	pal_act_end(&act);
	return result;
}

/* Reading /proc/<pid> of others asks for READ and is no tracing; attaching, process_vm_* and /proc/<pid>/mem ask for ATTACH. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(judge_trace, struct task_struct *target, unsigned int mode, int earlier)
{
	struct pal_subject subject;
	struct pal_act act;
	int result;

	if (earlier || !(mode & PAL_PTRACE_MODE_ATTACH) || !pal_is_judged(&subject, PAL_FAMILY_PTRACE))
		return earlier;
	if (subject.phase == PAL_PHASE_RUNTIME)
		return 0;
	pal_act_begin(&act, &subject, PAL_FAMILY_PTRACE);
	act.object = target->mm->exe_file;
	pal_judge_file(&act);
	result = pal_outcome(&act, PAL_EPERM);
	pal_act_end(&act);
	return result;
}

/* The current task asks `tracer` to trace it: the tracer is the actor, the current task's workload is the one that is held. */
SEC("lsm/ptrace_traceme")
int BPF_PROG(judge_traceme, struct task_struct *tracer, int earlier)
{
	struct pal_subject subject;
	struct pal_act act;
	int result;

	if (earlier || !pal_is_judged(&subject, PAL_FAMILY_PTRACE))
		return earlier;
	if (subject.phase == PAL_PHASE_RUNTIME)
		return 0;
	pal_act_begin(&act, &subject, PAL_FAMILY_PTRACE);
	act.object = bpf_get_current_task_btf()->mm->exe_file;
	act.actor = tracer;
	act.foreign_actor = 1;
	pal_judge_file(&act);
	result = pal_outcome(&act, PAL_EPERM);
	pal_act_end(&act);
	return result;
}
