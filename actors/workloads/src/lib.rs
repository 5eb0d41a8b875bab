//! Joins cgroups, containers and labels to workloads, and gives each its slot.
#![forbid(unsafe_code)]
