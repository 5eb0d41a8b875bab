//! Programs that do nothing in the places of those that decide: what being called costs, which is no cost of what they do.
//!
//! For the benchmark. Probes' own places are not among them ([`crate::probes::Probes::attach_idle`]).

use std::{error::Error, fs::File};

use aya::{
    Ebpf,
    programs::{BtfTracePoint, CgroupAttachMode, CgroupSockAddr, Lsm},
};

use crate::{
    KernelTypes,
    objects::{ARGUMENTS, Hook, IDENTITY, LSM},
};

/// Attaches one to each hook and tracepoint of the objects that decide, until what is returned is dropped. Of hooks and tracepoints that
/// this kernel does not have, none.
///
/// # Errors
/// What loading or attaching says.
pub fn attach() -> Result<Vec<Ebpf>, Box<dyn Error>> {
    let types = KernelTypes::shared()?;
    let mut attached = Vec::new();
    for spec in IDENTITY.iter().chain(ARGUMENTS).chain(LSM.iter().flat_map(|object| object.programs)) {
        let mut object = types.load(palisade_bpf::IDLE, None, &[])?;
        let taken = match spec.hook {
            Hook::Lsm(hook) | Hook::LaterLsm(hook) => {
                let program: &mut Lsm = object.program_mut("idle_hook").ok_or("idle_hook")?.try_into()?;
                program.load(hook, &types).and_then(|()| program.attach().map(drop))
            }
            Hook::BtfTracepoint(tracepoint) => {
                let program: &mut BtfTracePoint =
                    object.program_mut("idle_tracepoint").ok_or("idle_tracepoint")?.try_into()?;
                program.load(tracepoint, &types).and_then(|()| program.attach().map(drop))
            }
            Hook::Driven => continue,
        };
        match taken {
            Ok(()) => attached.push(object),
            Err(error) => eprintln!("{} has no place here: {error}", spec.name),
        }
    }
    Ok(attached)
}

/// Attaches one to connections of a cgroup and of those below it, until what is returned is dropped.
///
/// # Errors
/// What loading or attaching says.
pub fn attach_to_connections(cgroup: &File) -> Result<Ebpf, Box<dyn Error>> {
    let mut object = KernelTypes::shared()?.load(palisade_bpf::IDLE, None, &[])?;
    let program: &mut CgroupSockAddr = object.program_mut("idle_connect").ok_or("idle_connect")?.try_into()?;
    program.load()?;
    program.attach(cgroup, CgroupAttachMode::Single)?;
    Ok(object)
}
