//! containerd behind the Containers port, and the OCI hook.
#![forbid(unsafe_code)]
