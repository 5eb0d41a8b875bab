// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Protections by name on BPF LSM hooks, but for those of opens (lsm_file.bpf.c); lsm.h says what they need and what happens without.
 *
 * Beyond what their names say in KubeArmor: filelessExec also means O_TMPFILE and files that were unlinked before, anonMapExec also
 * mprotect(2) and mappings of memfd, of shared memory and of /dev/zero, and pages of a file that were, or may be, written privately;
 * protectProc means processes only, not the files of /proc that are about none. Gaps of these: stacks that an executable asks
 * to be executable, a heap that grows under READ_IMPLIES_EXEC, code that is written through /proc/self/mem or by a tracer, fileless
 * code that another program loads, magic links of /proc, a container's first process in a PID namespace that it shares.
 */
#include "lsm.h"

char LICENSE[] SEC("license") = "GPL";

/* Inode number of the host's mount namespace. Set before loading. */
const volatile __u32 pal_host_mnt_ns = 0;

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
static __always_inline int pal_protect_map(__u64 file, unsigned long protection, unsigned long flags)
{
	struct pal_subject subject;

	if (!(protection & PAL_PROT_EXEC) || pal_is_idle(PAL_FAMILY_PRESET) || !pal_is_judged(&subject, PAL_FAMILY_PRESET))
		return 0;
	if (!(flags & PAL_MAP_ANONYMOUS) && !pal_maps_memory(file) && !(protection & PAL_PROT_WRITE && pal_is_private(flags)))
		return 0;
	return pal_protect_memory(&subject, PAL_CALL_MMAP, protection);
}

SEC("lsm/mmap_file")
int BPF_PROG(protect_map, struct file *file, unsigned long asked, unsigned long protection, unsigned long flags, int earlier)
{
	return earlier ? earlier : pal_protect_map((__u64)file, protection, flags);
}

/* Before security_mmap_file(): see pal_mapped_protection. */
SEC("fentry/security_mmap_file")
int BPF_PROG(protect_map_asked, struct file *file, unsigned long asked, unsigned long flags, int earlier)
{
	return earlier ? earlier : pal_protect_map((__u64)file, pal_mapped_protection((__u64)file, asked), flags);
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
