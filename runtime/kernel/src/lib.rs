//! aya, cgroup BPF, BPF LSM and fanotify behind the Kernel port.
//!
//! [`KernelAdapter`] is the port's implementation. Below it: [`matrix`] tries what the kernel can do; [`objects`] loads programs
//! and pins their links; `slots`, `policy_pool`, `cgroups` and `mount_table` are the maps that the programs read; [`cgroup`]
//! and [`fanotify`] are the other two means, [`apparmor`] and [`selinux`] go beside them ([`audit`] tells of their denials), [`kill`] is the
//! last; [`probes`] and [`records`] observe.
//!
//! Invariant: the kernel's C headers (`bpf/include`) are the truth for every layout; what is written here is a twin that a test
//! compares with the compiled objects' BTF.
//!
//! [`usb`] is another port's: the host's devices.

mod adapter;
pub mod apparmor;
mod attendance;
pub mod audit;
pub mod cgroup;
mod cgroups;
mod claim;
pub mod fanotify;
pub mod fmod_ret;
mod guard;
pub mod idle;
mod kernel_types;
pub mod kill;
pub mod layout;
pub mod matrix;
mod members;
mod mount_table;
pub mod objects;
pub mod observation;
mod policy_pool;
pub mod probes;
mod programs;
mod pseudo_fs;
pub mod records;
pub mod selinux;
mod slots;
mod sys;
mod syscalls;
mod unknown;
mod unload;
pub mod usb;
mod verify;
mod writes;

pub use adapter::{KernelAdapter, KernelConfig};
pub use attendance::{Attendant, BEAT};
pub use claim::{Claim, ClaimError};
pub use guard::pinned_links;
pub use kernel_types::KernelTypes;
pub use sys::ToldToStop;
pub use unload::unload;
pub use usb::{UsbDevices, UsbPaths};
