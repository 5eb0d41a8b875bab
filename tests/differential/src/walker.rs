//! The Rust walker of the blob, which a node asks for fanotify, explanations and rehearsals.

use palisade_kernel_abi::blob::{AcceptId, Blob, Decision, Family, PathAccepts, SourceId, domain_path};
use palisade_policy_compiler::naive::{self, Object};
use palisade_protocol::CompiledPolicy;

use crate::{Act, Backend, BackendError, Said, walked};

/// The walker, as a backend.
#[derive(Debug, Default)]
pub struct RustWalker {
    policy: Option<CompiledPolicy>,
}

impl Backend for RustWalker {
    fn name(&self, _: Family) -> Option<&'static str> {
        Some("rust-walker")
    }

    fn install(&mut self, policy: &CompiledPolicy) -> Result<(), BackendError> {
        self.policy = Some(policy.clone());
        Ok(())
    }

    fn act(&mut self, act: &Act) -> Result<Said, BackendError> {
        let policy = self.policy.as_ref().ok_or_else(|| BackendError("nothing is in force".into()))?;
        Ok(walked(act, policy, |part| part.with(|act| decide(&policy.blob, act))))
    }
}

/// What the blob says of the act, as a walker asks it.
#[must_use]
pub fn decide(blob: &Blob, act: &naive::Act<'_>) -> Decision {
    let accept: PathAccepts = match act.object {
        Object::Path(path) => blob.path_accept(path),
        Object::Endpoint(endpoint) => blob.network_accept(endpoint.encode().as_ref()).into(),
        Object::Capability(number) => AcceptId::of_capability(number).into(),
        Object::Syscall { number, compat: false } => AcceptId::of_syscall(number.into()).into(),
        Object::Syscall { number, compat: true } => AcceptId::of_compat_syscall(number.into()).into(),
        Object::Domain(name) => blob.name_accept(&domain_path(name.as_bytes())).into(),
        // Presets count from 1 in the order of the language.
        Object::Preset(preset) => AcceptId(preset as u32 + 1).into(),
    };
    let source = act.executable.map_or(SourceId::NONE, |path| blob.source_id(path));
    let decision = blob.decide(act.family, accept, source, act.modifiers);
    decision.settled(blob.arguments_meet(decision.arguments, act.arguments.iter().map(|text| text.as_bytes())))
}
