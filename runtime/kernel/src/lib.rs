//! aya, cgroup BPF, BPF LSM and fanotify behind the Kernel port.

pub mod probes;
pub mod records;
