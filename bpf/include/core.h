/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * The kernel types that the programs read, and nothing more.
 *
 * Own definitions with preserve_access_index, not a generated vmlinux.h, because they name exactly the fields that we stand
 * on: what is not here is not read, and CO-RE moves each access to where the running kernel keeps the field. Order and
 * padding mean nothing here. A field of one of *our* structs must never be read with BPF_CORE_READ: it would be
 * relocated too, and the loader could only fail.
 */
#ifndef PALISADE_CORE_H
#define PALISADE_CORE_H

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
};

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_F_NO_PREALLOC = 1,
	BPF_F_MMAPABLE = 1024,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_SK_STORAGE_GET_F_CREATE = 1,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0, /* questions to bpf_ringbuf_query */
	BPF_RB_RING_SIZE = 1,
};

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#define PAL_EPERM 1
#define PAL_EBADF 9
#define PAL_EACCES 13
#define PAL_EINVAL 22
#define PAL_ENOSPC 28
#define PAL_ELOOP 40

/* fcntl.h and fs.h of the kernel: the numbers are ABI or have been stable since the field exists. */
#define PAL_O_CREAT 0100
#define PAL_O_TRUNC 01000
#define PAL_RENAME_EXCHANGE 2u
#define PAL_S_IFMT 0170000
#define PAL_S_IFREG 0100000
#define PAL_S_IFDIR 0040000
#define PAL_S_IFSOCK 0140000
#define PAL_SIGNAL_GROUP_EXIT 4u      /* signal_struct.flags: group_exit_code is meant */
#define PAL_FMODE_WRITE 0x2u
#define PAL_FMODE_CREATED 0x100000u   /* this open made the file */
#define PAL_FMODE_EXEC 0x20u          /* in f_flags: an open on behalf of execve */
#define PAL_FMODE_BACKING 0x3000000u  /* it is within a struct backing_file, from 6.5 on: bit 25, and 24 in later ones, also of 6.12 */
#define PAL_FMODE_NOACCOUNT 0x20000000u /* a file of the kernel's own: the second open of a stacked file system */
#define PAL_SB_KERNMOUNT (1ul << 22)  /* pipefs, sockfs, the shmem of memfd: no name in any namespace */
#define PAL_PROC_MAGIC 0x9fa0
#define PAL_TMPFS_MAGIC 0x01021994
#define PAL_SKBFL_ZEROCOPY_ENABLE 1u  /* a packet's pages are the sender's */
#define PAL_SKBFL_SHARED_FRAG 2u      /* they may be written by others: sendfile(2), splice(2) */
#define PAL_DEV_ZERO ((1u << 20) | 5) /* as the kernel keeps device numbers: major above 20 bits of minor */
#define PAL_PROT_READ 1
#define PAL_PROT_WRITE 2
#define PAL_PROT_EXEC 4
#define PAL_MAP_TYPE 0xful
#define PAL_MAP_PRIVATE 2ul
#define PAL_MAP_ANONYMOUS 0x20
#define PAL_VM_WRITE 2
#define PAL_VM_EXEC 4
#define PAL_VM_SHARED 8
#define PAL_PF_IO_WORKER 0x10u /* in a task's flags: a thread that io_uring made for it */
#define PAL_READ_IMPLIES_EXEC 0x0400000u /* in a personality */
#define PAL_MNT_NOEXEC 0x4
#define PAL_MNT_SHARED 0x1000 /* of mnt_flags, before Linux 6.17 */
#define PAL_T_SHARED 1        /* of mnt_t_flags, from then on */
#define PAL_SB_I_NOEXEC 0x2ul
#define PAL_MNT_NS_INTERNAL ((__u64)-PAL_EINVAL)

#define PAL_AF_UNSPEC 0
#define PAL_AF_INET 2
#define PAL_AF_INET6 10
#define PAL_AF_PACKET 17
#define PAL_SOCK_STREAM 1
#define PAL_SOCK_DGRAM 2
#define PAL_SOCK_PACKET 10 /* obsolete */
#define PAL_IPPROTO_ICMP 1
#define PAL_IPPROTO_TCP 6
#define PAL_IPPROTO_UDP 17
#define PAL_IPPROTO_ICMPV6 58

/* A function of its own, not inlined at each call; not every object that includes it calls it. */
#define pal_function static __noinline __attribute__((unused))
/* One that the verifier looks at once, and not at each call: it knows nothing of arguments and result. */
#define pal_global __noinline __attribute__((unused))

/* Hides a value from the compiler, so that it neither merges bounds checks nor drops masks that the verifier needs. */
#define pal_opaque(value) asm volatile("" : "+r"(value))

/*
 * Hides a constant from the verifier: the zero is in a map, and could be anything.
 *
 * Needed because of a fault in the verifier of 6.1 (mended in 6.8): when a function reads what its caller left on the stack,
 * by a pointer, and branches on it, the verifier does not note that the value mattered. It checks the function for the first
 * path's constant, takes the other paths for the same, and removes the branches that the first did not take. So: what a
 * function branches on is passed by value, or is veiled where it is stored, on every path.
 */
static volatile __u32 pal_unknown_zero __attribute__((unused));
#define pal_veiled(value) ((value) + pal_unknown_zero)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

/* What is behind a struct __sk_buff. */
struct sk_buff {
	unsigned int data_len; /* of the bytes, those that lie in pages */
	unsigned int end;      /* of the buffer at `head`, where the struct skb_shared_info is */
	unsigned char *head;
};

struct skb_shared_info {
	__u8 flags;
};

typedef struct {
	unsigned int val;
} kuid_t;

typedef struct {
	unsigned int val;
} kgid_t;

struct user_namespace;

struct mnt_namespace {
	struct ns_common ns;
};

struct xarray {
	void *xa_head;
};

struct xa_node {
	unsigned char shift;
	void *slots[64];
};

struct idr {
	struct xarray idr_rt; /* radix_tree_root is a name for it since 4.20 */
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct pid_namespace {
	struct ns_common ns;
	unsigned int level;
	struct idr idr;
};

struct uts_namespace {
	struct ns_common ns;
};

struct ipc_namespace {
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct time_namespace {
	struct ns_common ns;
};

struct user_namespace {
	struct user_namespace *parent;
	int level;
	kuid_t owner;
	struct ns_common ns;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct time_namespace *time_ns;
	struct cgroup_namespace *cgroup_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct hlist_head tasks[4];
	struct upid numbers[1];
};

struct qstr {
	__u32 hash; /* of the name, salted by the parent */
	__u32 len;
	const unsigned char *name;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_flags;
	unsigned long s_iflags;
	unsigned long s_magic;
	struct dentry *s_root;
};

struct inode {
	unsigned int i_generation;
	unsigned long i_ino;
	__u16 i_mode;
	kuid_t i_uid;
	unsigned int i_nlink;
	__u32 i_rdev;
	struct super_block *i_sb;
	void *i_private;
};

/* An inode of procfs, around the one that everybody sees. */
struct proc_inode {
	struct pid *pid; /* whose directory it is of; NULL for what is about no process */
	struct inode vfs_inode;
};

struct hlist_bl_node {
	struct hlist_bl_node *next;
	struct hlist_bl_node **pprev;
};

typedef struct seqcount {
	unsigned int sequence;
} seqcount_t;

typedef struct seqcount_spinlock {
	seqcount_t seqcount;
} seqcount_spinlock_t;

struct dentry {
	seqcount_spinlock_t d_seq;
	struct hlist_bl_node d_hash; /* pprev is NULL where the name was taken away */
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
	int mnt_flags;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	const char *mnt_devname;
	struct mnt_namespace *mnt_ns;
	int mnt_t_flags; /* since Linux 6.17 */
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

/* Work that a task does before it returns to user space. */
struct callback_head {
	struct callback_head *next;
	void *func;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_flags;
	unsigned int f_mode;
	void *private_data;
	struct callback_head f_task_work; /* from 6.7 on */
};

/* A stacked file system's second open from 6.8 on: the path that was asked for is here, and the layer's in `file`. */
struct backing_file {
	struct file file;
	struct path user_path;
};

struct file___before_6_7 {
	struct callback_head f_rcuhead;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
	void *anon_vma; /* it has pages that were written and are nobody else's */
};

/* 6.3 made one 64-bit word of two 32-bit ones: as bytes it is the same. Read by address only. */
typedef struct {
	__u64 val;
} kernel_cap_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t suid;
	kgid_t sgid;
	kuid_t euid;
	kgid_t egid;
	kuid_t fsuid;
	kgid_t fsgid;
	kernel_cap_t cap_inheritable;
	kernel_cap_t cap_permitted;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

struct tty_driver {
	int major;
	int minor_start;
};

struct tty_struct {
	struct tty_driver *driver;
	int index;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	struct tty_struct *tty;
	atomic_t live;
	unsigned int flags;
	int group_exit_code;
};

struct thread_info {
#if defined(__TARGET_ARCH_x86)
	__u32 status;
#elif defined(__TARGET_ARCH_arm64)
	unsigned long flags;
#endif
};

struct kernfs_node {
	__u64 id;
	const char *name;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
	int level;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid;
	int tgid;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct files_struct *files;
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	struct pid *thread_pid;
	struct hlist_node pid_links[4];
	struct css_set *cgroups;
	const struct cred *real_cred;
	const struct cred *cred;
	void *io_uring; /* it has used a ring */
	struct callback_head *task_works;
	struct signal_struct *signal;
	__u64 start_boottime;
	unsigned long nivcsw; /* times that it was preempted */
	unsigned int personality;
	unsigned int in_execve : 1;
	__u64 self_exec_id;
	int exit_code;
	char comm[16];
};

struct kernel_siginfo;

struct module {
	char name[56];
};

enum bpf_prog_type {
	PAL_PROG_TYPE_NONE = 0,
};

enum bpf_map_type {
	PAL_MAP_TYPE_NONE = 0,
};

struct bpf_prog_aux {
	__u32 id;
	char name[16];
};

struct bpf_prog {
	enum bpf_prog_type type;
	struct bpf_prog_aux *aux;
};

struct bpf_map {
	enum bpf_map_type map_type;
	__u32 id;
	char name[16];
};

struct bpf_link {
	__u32 id;
	struct bpf_prog *prog;
};

struct filename {
	const char *name;
};

struct io_cqe {
	int fd;
};

struct io_kiocb {
	struct file *file; /* shares its place with what the operation has prepared */
	unsigned char opcode;
	unsigned int flags;
	struct io_cqe cqe;
};

/* What operations with a name have prepared; the name is the kernel's copy. */
struct io_open {
	int dfd;
	struct filename *filename;
};

struct io_rename {
	int old_dfd;
	struct filename *oldpath;
};

struct io_unlink {
	int dfd;
	struct filename *filename;
};

struct io_mkdir {
	int dfd;
	struct filename *filename;
};

struct linux_binprm {
	struct file *file;
	struct file *executable; /* kept for an interpreter that is given its descriptor (binfmt_misc) */
	const struct cred *cred;
	int argc;
	const char *filename; /* as the caller gave it; by a descriptor /dev/fd/N, or below it */
	const char *interp; /* the same until an interpreter is asked for */
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num; /* host order */
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_type;
	__u16 sk_protocol;
};

struct socket {
	short type;
	struct file *file;
	struct sock *sk;
};

struct sockaddr {
	unsigned short sa_family;
};

struct pt_regs {
#if defined(__TARGET_ARCH_x86)
	unsigned long bp;
	unsigned long bx;
	unsigned long cx;
	unsigned long di;
	unsigned long si;
	unsigned long dx;
	unsigned long r10;
	unsigned long r8;
	unsigned long r9;
	unsigned long ax;
	unsigned long orig_ax;
#elif defined(__TARGET_ARCH_arm64)
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
#endif
};

#pragma clang attribute pop

/* Contexts and user-space layouts: ABI, never relocated. */
struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;
	__u32 user_ip6[4];
	__u32 user_port;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
};

/* Of a packet; the offsets are the ABI's. */
struct __sk_buff {
	__u32 len;
	__u32 before_sk[41];
	struct bpf_sock *sk;
	__u32 gso_size;
};

struct pal_sockaddr_in {
	__u16 family;
	__be16 port;
	__be32 address;
};

struct pal_sockaddr_in6 {
	__u16 family;
	__be16 port;
	__be32 flow;
	__be32 address[4];
};

/* The kernel takes IPv6 addresses without a scope id too (SIN6_LEN_RFC2133). */
#define PAL_SIN6_LEN_RFC2133 24

#endif
