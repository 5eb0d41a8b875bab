//! aya, cgroup BPF, BPF LSM and fanotify behind the Kernel port.

pub mod cgroup;
pub mod fanotify;
pub mod probes;
pub mod records;
