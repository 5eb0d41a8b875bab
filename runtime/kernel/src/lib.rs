//! aya, cgroup BPF, BPF LSM and fanotify behind the Kernel port.
