// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * The decisions as BPF LSM programs: the strongest tier.
 *
 * Needs Linux 5.17, CONFIG_BPF_LSM and `bpf` among the active LSMs: elsewhere these programs attach and never run, which is
 * why a test denial is tried first (selftest.bpf.c). Without them files and executables fall to fanotify, networks to the
 * cgroup programs, and tracing can only be killed for.
 *
 * Gaps (matrix.rs says the same): code that another program loads (ld.so /path/program, an ELF interpreter, uselib,
 * mmap(PROT_EXEC)) is not executed by itself; a file is judged by the name that it is opened by, so that one which was renamed
 * or hard-linked first has another; rename, link, unlink, mkdir, rmdir, symlink, truncate(2), chmod and chown are not judged,
 * nor descriptors that were open already; sends over raw, packet and SCTP sockets, and sends without a connect of processes
 * outside containers; further subflows of MPTCP. An owner is the inode's raw user, on idmapped mounts too.
 *
 * Not among them: flags that a caller invents. open(2), openat2(2), open_by_handle_at(2) and io_uring mask or refuse all bits
 * but O_*, so that __FMODE_EXEC in f_flags is the kernel's (XFS_IOC_OPEN_BY_HANDLE does not, and needs CAP_SYS_ADMIN on the
 * host), and FMODE_NOACCOUNT in f_mode cannot be asked for at all.
 *
 * Arguments lie in pages that nobody can read at bprm_check_security: a word that depends on them is noted there and held by
 * arguments.bpf.c, by a kill before the first instruction. Capabilities are judged where the kernel has found them held, so that
 * what a task tries without having is no act; a question in passing (CAP_OPT_NOAUDIT) is denied without a record. Presets beyond
 * what their names say in KubeArmor: filelessExec also means O_TMPFILE and files that were unlinked before, anonMapExec also
 * mprotect(2) and mappings of memfd, of shared memory and of /dev/zero, and pages of a file that were, or may be, written privately;
 * protectProc means processes only, not the files of /proc that are about none. Gaps of these: stacks that an executable asks
 * to be executable, a heap that grows under READ_IMPLIES_EXEC, code that is written through /proc/self/mem or by a tracer, fileless
 * code that another program loads, magic links of /proc, a container's first process in a PID namespace that it shares.
 *
 * In the RUNTIME phase only executables are judged, and of these only what is executed inside the container: the container
 * runtime's work inside the cgroup is not the workload's.
 */
#include "arguments.h"
#include "conditions.h"
#include "observe.h"
#include "report.h"
#include "report_acts.h"
#include "emit_calls.h"

char LICENSE[] SEC("license") = "GPL";

/* Inode number of the host's mount namespace. Set before loading. */
const volatile __u32 pal_host_mnt_ns = 0;
/* The cgroup programs are there too and report what they audit: audits of IPv4 and IPv6 are left to them. Set before loading. */
const volatile __u32 pal_cgroup_reports = 0;
/* arguments.bpf.c is attached: what waits for its arguments is held there. Set before loading. */
const volatile __u32 pal_arguments_judged = 0;

#define PAL_PTRACE_MODE_ATTACH 2
#define PAL_PTRACE_TRACEME_REQUEST 0
#define PAL_PTRACE_ATTACH_REQUEST 16

/*
 * Is anything decided about the family for whoever acts? Everybody's acts come by here: what is not must end soon, and programs
 * ask pal_is_idle before anything else.
 */
static __always_inline bool pal_is_decided(struct pal_subject *subject, __u32 family)
{
	pal_identify(subject);
	return pal_decides(subject, family);
}

static __always_inline bool pal_is_judged(struct pal_subject *subject, __u32 family)
{
	return pal_is_decided(subject, family) && subject->phase != PAL_PHASE_RUNTIME;
}

static __always_inline __u32 pal_owner_modifier(struct inode *inode)
{
	return inode->i_uid.val == bpf_get_current_task_btf()->cred->fsuid.val ? PAL_MODIFIER_OWNER : 0;
}

static __always_inline void pal_act_on(struct pal_act *act, struct file *file)
{
	act->object.mount = file->f_path.mnt;
	act->object.dentry = file->f_path.dentry;
}

/* ---- executables ---- */

/*
 * A word that waits for arguments is no verdict yet: they lie in pages that nobody can read here. Where nobody will look at them
 * later, they cannot be judged.
 */
static __always_inline void pal_wait_for_arguments(struct pal_act *act, struct linux_binprm *bprm)
{
	bool noted = pal_note_execution(bprm, act, bprm->interp != bprm->filename);

	if (!pal_awaits_arguments(act))
		return;
	if (pal_arguments_judged && noted)
		act->word = pal_veiled(PAL_EFFECT_PERMIT);
	else
		pal_fail(act, PAL_UNREADABLE);
}

static __noinline int pal_judge_exec(struct linux_binprm *bprm, struct pal_subject *subject)
{
	struct file *file = bprm->file;
	struct pal_verdict verdict;
	struct pal_text path;
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_PROCESS);
	pal_act_on(&act, file);
	act.modifiers = pal_owner_modifier(file->f_inode) | pal_terminal_modifier();
	pal_judge_file(&act);
	pal_wait_for_arguments(&act, bprm);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT) {
		pal_lsm_verdict(&act, &verdict);
		pal_judged_path(&act, &path);
		pal_emit_exec(subject, &path, bprm, &verdict, false);
	}
	result = pal_errno(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

SEC("lsm/bprm_check_security")
int BPF_PROG(judge_exec, struct linux_binprm *bprm, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_PROCESS) || !pal_is_decided(&subject, PAL_FAMILY_PROCESS))
		return earlier;
	if (subject.phase == PAL_PHASE_RUNTIME &&
	    !pal_executes_inside(bpf_get_current_task_btf(), subject.kept, pal_host_mnt_ns))
		return 0;
	return pal_judge_exec(bprm, &subject);
}

/* ---- files ---- */

/*
 * Opens on behalf of execve are the process family's matter, and a stacked file system's second open was judged when the
 * upper file was opened.
 */
static __always_inline bool pal_is_inner_open(struct file *file)
{
	return file->f_mode & PAL_FMODE_NOACCOUNT || file->f_flags & PAL_FMODE_EXEC;
}

static __always_inline __u32 pal_write_modifier(struct file *file)
{
	bool writes = file->f_mode & PAL_FMODE_WRITE || file->f_flags & (PAL_O_CREAT | PAL_O_TRUNC);

	return writes ? PAL_MODIFIER_WRITE : 0;
}

static __always_inline void pal_report_open(const struct pal_act *act, __u32 open_flags)
{
	struct pal_verdict verdict;
	struct pal_text path;

	pal_lsm_verdict(act, &verdict);
	pal_judged_path(act, &path);
	pal_emit_open(act->subject, &path, open_flags, pal_is_denied(act) ? -PAL_EACCES : 0, &verdict);
}

static __noinline int pal_judge_open(struct file *file, struct pal_subject *subject)
{
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_FILE);
	pal_act_on(&act, file);
	act.modifiers = pal_owner_modifier(file->f_inode) | pal_write_modifier(file) | pal_terminal_modifier();
	pal_judge_file(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT)
		pal_report_open(&act, file->f_flags);
	result = pal_errno(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

/* Judges protections whose conditions are met; the verdict is in `verdict`. */
static __noinline int pal_protect(struct pal_subject *subject, struct pal_presets presets, struct pal_verdict *verdict)
{
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_PRESET);
	pal_judge_presets(&act, presets.one, presets.other);
	pal_lsm_verdict(&act, verdict);
	result = pal_errno(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

static __always_inline bool pal_is_told(const struct pal_verdict *verdict)
{
	return (verdict->word & PAL_DECISION_EFFECT_MASK) != PAL_EFFECT_PERMIT;
}

static __noinline int pal_protect_open(struct file *file)
{
	struct pal_presets presets;
	struct pal_verdict verdict;
	struct pal_subject subject;
	int result;

	if (!pal_is_judged(&subject, PAL_FAMILY_PRESET))
		return 0;
	presets = pal_presets_of_open((__u64)file);
	if (!presets.one)
		return 0;
	result = pal_protect(&subject, presets, &verdict);
	if (pal_is_told(&verdict))
		pal_emit_open_of(&subject, (__u64)file, file->f_flags, result, &verdict);
	return result;
}

/*
 * Protections are judged here and not by a program of their own: being called a second time is half of what an open costs that
 * nobody decides.
 */
SEC("lsm/file_open")
int BPF_PROG(judge_open, struct file *file, int earlier)
{
	struct pal_subject subject;
	__u32 idle;
	int result;

	if (earlier)
		return earlier;
	idle = pal_idle_families();
	if (!(idle >> PAL_FAMILY_PRESET & 1) && file->f_inode->i_sb->s_magic == PAL_PROC_MAGIC) {
		result = pal_protect_open(file);
		if (result)
			return result;
	}
	/* The inner open before the identity: on overlayfs it is half of all calls. */
	if (idle >> PAL_FAMILY_FILE & 1 || pal_is_inner_open(file) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return 0;
	return pal_judge_open(file, &subject);
}

/*
 * A file is made before it is opened: denied at the open alone, an empty one would stay behind. The maker will own it. What
 * is only audited is reported by the open that follows; `alone`: none does.
 */
static __noinline int pal_judge_create(const struct path *directory, struct dentry *dentry, struct pal_subject *subject,
				       bool alone)
{
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_FILE);
	act.object.mount = directory->mnt;
	act.object.dentry = dentry;
	act.modifiers = PAL_MODIFIER_OWNER | PAL_MODIFIER_WRITE | pal_terminal_modifier();
	pal_judge_file(&act);
	if (alone ? pal_effect(&act) != PAL_EFFECT_PERMIT : pal_is_denied(&act))
		pal_report_open(&act, PAL_O_CREAT);
	result = pal_errno(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

/*
 * open(2) asks with S_IFREG, whatever its caller says, and nothing else opens what it makes: FIFOs, devices and sockets come
 * from mknod(2) and bind(2), and so does a mode without a type, by which mknod(2) makes a regular file. By S_IFREG it makes
 * one too, which cannot be told from an open here: that one is audited when it is opened.
 */
static __always_inline bool pal_is_made_alone(__u16 mode)
{
	return (mode & PAL_S_IFMT) != PAL_S_IFREG;
}

SEC("lsm/path_mknod")
int BPF_PROG(judge_create, const struct path *directory, struct dentry *dentry, __u16 mode, unsigned int device, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return earlier;
	return pal_judge_create(directory, dentry, &subject, pal_is_made_alone(mode));
}

/* ---- networks ---- */

static __always_inline bool pal_others_report(const struct pal_act *act, const struct pal_endpoint *endpoint)
{
	bool seen_by_cgroup = endpoint->bytes[0] == PAL_AF_INET || endpoint->bytes[0] == PAL_AF_INET6;

	return pal_cgroup_reports && !pal_is_denied(act) && seen_by_cgroup && act->subject->slot;
}

static __noinline int pal_judge_network(const struct pal_endpoint *endpoint, struct pal_subject *subject, __u32 family)
{
	struct pal_network_act network = {
		.operation = family == PAL_FAMILY_SOCKET ? PAL_NETWORK_SOCKET : PAL_NETWORK_CONNECT,
	};
	struct pal_verdict verdict;
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, family);
	act.modifiers = pal_terminal_modifier();
	if (act.scratch)
		pal_endpoint_canonical(&act, endpoint);
	pal_judge_endpoint(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT && !pal_others_report(&act, endpoint)) {
		pal_lsm_verdict(&act, &verdict);
		network.result = pal_is_denied(&act) ? -PAL_EPERM : 0;
		pal_emit_network(subject, endpoint, &network, &verdict);
	}
	result = pal_errno(&act, PAL_EPERM);
	pal_act_end(&act);
	return result;
}

SEC("lsm/socket_create")
int BPF_PROG(judge_socket, int domain, int type, int protocol, int by_kernel, int earlier)
{
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;

	if (earlier || by_kernel || pal_is_idle(PAL_FAMILY_SOCKET) || !pal_is_judged(&subject, PAL_FAMILY_SOCKET))
		return earlier;
	pal_endpoint_socket(&endpoint, domain, type, protocol);
	return pal_judge_network(&endpoint, &subject, PAL_FAMILY_SOCKET);
}

/* `address` is the kernel's copy: no other thread can change it any more. */
static __always_inline void pal_endpoint_of_connect(struct pal_endpoint *endpoint, struct sock *sock,
						    struct sockaddr *address, int length)
{
	struct pal_sockaddr_in6 v6 = {};
	struct pal_sockaddr_in v4 = {};
	__u16 domain = 0;

	if (length >= (int)sizeof(domain))
		bpf_probe_read_kernel(&domain, sizeof(domain), address);
	pal_endpoint_socket(endpoint, domain, sock->sk_type, sock->sk_protocol);
	if (domain == PAL_AF_INET && length >= (int)sizeof(v4)) {
		bpf_probe_read_kernel(&v4, sizeof(v4), address);
		pal_endpoint_ipv4(endpoint, v4.port, v4.address);
	} else if (domain == PAL_AF_INET6 && length >= PAL_SIN6_LEN_RFC2133) {
		bpf_probe_read_kernel(&v6, PAL_SIN6_LEN_RFC2133, address);
		pal_endpoint_ipv6(endpoint, v6.port, v6.address);
	}
}

/* AF_UNSPEC on an IP socket takes its destination away, and names none (getaddrinfo(3) does it); cgroup programs are not asked. */
static __always_inline bool pal_is_disconnect(struct sock *sock, struct sockaddr *address, int length)
{
	__u16 domain = sock->__sk_common.skc_family;

	return (domain == PAL_AF_INET || domain == PAL_AF_INET6) && length >= (int)sizeof(address->sa_family) &&
	       address->sa_family == PAL_AF_UNSPEC;
}

SEC("lsm/socket_connect")
int BPF_PROG(judge_connect, struct socket *socket, struct sockaddr *address, int length, int earlier)
{
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;
	struct sock *sock;

	if (earlier || pal_is_idle(PAL_FAMILY_CONNECT) || !pal_is_judged(&subject, PAL_FAMILY_CONNECT))
		return earlier;
	/* Never none here; the verifier wants it asked from 6.12 on. */
	sock = socket->sk;
	if (!sock || pal_is_disconnect(sock, address, length))
		return earlier;
	pal_endpoint_of_connect(&endpoint, sock, address, length);
	return pal_judge_network(&endpoint, &subject, PAL_FAMILY_CONNECT);
}

/* ---- tracing ---- */

/* `target` is traced by `tracer`; one of the two is the current task, whose workload is held. */
static __noinline int pal_judge_tracing(struct task_struct *target, struct task_struct *tracer, struct pal_subject *subject,
					__u32 request)
{
	struct pal_verdict verdict;
	struct pal_target about;
	struct pal_text path;
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_PTRACE);
	act.object.mount = target->mm->exe_file->f_path.mnt;
	act.object.dentry = target->mm->exe_file->f_path.dentry;
	act.actor = tracer;
	act.foreign_actor = pal_veiled(request == PAL_PTRACE_TRACEME_REQUEST);
	pal_judge_file(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT) {
		about.request = request;
		about.tgid = target->tgid;
		about.tid = target->pid;
		about.slot = pal_slot_of_cgroup(pal_cgroup_of_task(target));
		about.start_ns = target->group_leader->start_boottime;
		pal_lsm_verdict(&act, &verdict);
		pal_judged_path(&act, &path);
		pal_emit_ptrace(subject, &path, &about, &verdict);
	}
	result = pal_errno(&act, PAL_EPERM);
	pal_act_end(&act);
	return result;
}

/* Reading /proc/<pid> of others asks for READ and is no tracing; attaching, process_vm_* and /proc/<pid>/mem ask for ATTACH. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(judge_trace, struct task_struct *target, unsigned int mode, int earlier)
{
	struct pal_subject subject;

	if (earlier || !(mode & PAL_PTRACE_MODE_ATTACH) || pal_is_idle(PAL_FAMILY_PTRACE) ||
	    !pal_is_judged(&subject, PAL_FAMILY_PTRACE))
		return earlier;
	return pal_judge_tracing(target, bpf_get_current_task_btf(), &subject, PAL_PTRACE_ATTACH_REQUEST);
}

/* The current task asks `tracer` to trace it: the tracer is the actor, the current task's workload is the one that is held. */
SEC("lsm/ptrace_traceme")
int BPF_PROG(judge_traceme, struct task_struct *tracer, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_PTRACE) || !pal_is_judged(&subject, PAL_FAMILY_PTRACE))
		return earlier;
	return pal_judge_tracing(bpf_get_current_task_btf(), tracer, &subject, PAL_PTRACE_TRACEME_REQUEST);
}

/* ---- capabilities ---- */

#define PAL_CAP_OPT_NOAUDIT 2u /* the kernel asks in passing whether it would be so, and nobody is to hear of it */

/*
 * Whether the task uses what it has. Not where the kernel works with other credentials for a moment (overlayfs writes as who
 * mounted it, access(2) asks for the real user): that use is not the task's. But io_uring lends a task credentials that it had
 * itself before, so that one which has a ring is always meant. A question in passing about foreign credentials is about another
 * task (the OOM killer asks so).
 */
static __always_inline bool pal_is_own_question(const struct cred *credentials, unsigned int options)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 subjective = (__u64)task->cred, objective = (__u64)task->real_cred;

	if (subjective != objective && !(bpf_core_field_exists(task->io_uring) && task->io_uring))
		return false;
	return (__u64)credentials == subjective || !(options & PAL_CAP_OPT_NOAUDIT);
}

static __noinline int pal_judge_capability(struct pal_subject *subject, __u32 capability, __u32 options)
{
	struct pal_verdict verdict;
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_CAPABILITY);
	pal_judge_number(&act, capability < PAL_CAPABILITY_ACCEPTS - 1 ? capability + 1 : 0);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT && !(options & PAL_CAP_OPT_NOAUDIT)) {
		pal_lsm_verdict(&act, &verdict);
		pal_emit_capability(subject, capability, pal_is_denied(&act) ? -PAL_EPERM : 0, &verdict);
	}
	result = pal_errno(&act, PAL_EPERM);
	pal_act_end(&act);
	return result;
}

/* Asked only where the task has the capability: the kernel's own check comes first, and its refusal is the end. */
SEC("lsm/capable")
int BPF_PROG(judge_capability, const struct cred *credentials, struct user_namespace *space, int capability,
	     unsigned int options, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_CAPABILITY) || !pal_is_judged(&subject, PAL_FAMILY_CAPABILITY) ||
	    !pal_is_own_question(credentials, options))
		return earlier;
	return pal_judge_capability(&subject, capability, options);
}

/* ---- protections by name, but for opens ---- */

SEC("lsm/bprm_check_security")
int BPF_PROG(protect_exec, struct linux_binprm *bprm, int earlier)
{
	struct pal_presets presets;
	struct pal_verdict verdict;
	struct pal_subject subject;
	int result;

	if (earlier || pal_is_idle(PAL_FAMILY_PRESET) || !pal_is_decided(&subject, PAL_FAMILY_PRESET))
		return earlier;
	if (subject.phase == PAL_PHASE_RUNTIME &&
	    !pal_executes_inside(bpf_get_current_task_btf(), subject.kept, pal_host_mnt_ns))
		return 0;
	presets = pal_presets_of_exec(&subject, (__u64)bprm->file);
	if (!presets.one && !presets.other)
		return 0;
	result = pal_protect(&subject, presets, &verdict);
	if (pal_is_told(&verdict))
		pal_emit_exec_of(&subject, bprm, &verdict);
	return result;
}

/* `number`: mmap(2) or mprotect(2), what records call the act. */
static __noinline int pal_protect_memory(struct pal_subject *subject, __u32 number, __u64 protection)
{
	struct pal_presets presets = { .one = PAL_PRESET_ANON_MAP_EXEC };
	struct pal_verdict verdict;
	int result = pal_protect(subject, presets, &verdict);

	if (pal_is_told(&verdict))
		pal_emit_memory(subject, number, protection, result, &verdict);
	return result;
}

/* What is written to it goes to no file, and to no other process. */
static __always_inline bool pal_is_private(unsigned long flags)
{
	return (flags & PAL_MAP_TYPE) == PAL_MAP_PRIVATE;
}

/*
 * `file` may be NULL, which the verifier does not know: it is only read from, by its address. A file's own pages that may be
 * written privately and executed without another call are as good as memory of no file.
 */
SEC("lsm/mmap_file")
int BPF_PROG(protect_map, struct file *file, unsigned long asked, unsigned long protection, unsigned long flags, int earlier)
{
	struct pal_subject subject;

	if (earlier || !(protection & PAL_PROT_EXEC) || pal_is_idle(PAL_FAMILY_PRESET) || !pal_is_judged(&subject, PAL_FAMILY_PRESET))
		return earlier;
	if (!(flags & PAL_MAP_ANONYMOUS) && !pal_maps_memory((__u64)file) &&
	    !(protection & PAL_PROT_WRITE && pal_is_private(flags)))
		return 0;
	return pal_protect_memory(&subject, PAL_CALL_MMAP, protection);
}

/* Does the change make memory executable, or executable memory writable, which it was not? */
static __always_inline bool pal_gains_execution(__u64 flags, unsigned long protection)
{
	return !(flags & PAL_VM_EXEC) || (protection & PAL_PROT_WRITE && !(flags & PAL_VM_WRITE));
}

/*
 * What was mapped without PROT_EXEC and gets it later, or has it and is to be written: memory, and pages of a file that were
 * written, or may be from now on, for this process alone.
 */
SEC("lsm/file_mprotect")
int BPF_PROG(protect_protection, struct vm_area_struct *area, unsigned long asked, unsigned long protection, int earlier)
{
	struct pal_subject subject;
	__u64 file, flags;
	bool is_own;

	if (earlier || !(protection & PAL_PROT_EXEC) || pal_is_idle(PAL_FAMILY_PRESET) || !pal_is_judged(&subject, PAL_FAMILY_PRESET))
		return earlier;
	file = (__u64)BPF_CORE_READ(area, vm_file);
	flags = BPF_CORE_READ(area, vm_flags);
	is_own = BPF_CORE_READ(area, anon_vma) || (protection & PAL_PROT_WRITE && !(flags & PAL_VM_SHARED));
	if (!pal_gains_execution(flags, protection) || (file && !pal_maps_memory(file) && !is_own))
		return 0;
	return pal_protect_memory(&subject, PAL_CALL_MPROTECT, protection);
}
