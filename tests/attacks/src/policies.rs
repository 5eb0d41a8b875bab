//! The policies that attacks are tried under, as a user writes them.

use std::collections::BTreeMap;

use palisade_domain::{Family, Posture, Workload, WorkloadKind};
use palisade_kernel_abi::record;
use palisade_policy::{PolicySet, ir::Postures};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_protocol::CompiledPolicy;

use crate::Failed;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Two directories are blocked.
    Files,
    /// The same may be read.
    ReadOnly,
    /// The same may be used by their owner.
    OwnerOnly,
    /// One file is blocked.
    Secret,
    /// The same for one executable.
    Source,
    /// Four programs are blocked.
    Programs,
    /// A name is blocked that is a symbolic link.
    Applet,
    /// Two programs may run, no other.
    AllowList,
    /// The preset against programs without a file.
    Fileless,
    /// One port of loopback is blocked.
    Destination,
    /// Raw and packet sockets are blocked.
    Raw,
    /// All sockets are blocked.
    Sockets,
    /// Questions for a name are blocked.
    Names,
    /// Tracing of the attacker's executable is blocked.
    Tracing,
    /// `CAP_SYS_ADMIN` is blocked.
    Administration,
}

impl Policy {
    /// The `spec` of a PalisadePolicy, without its selector.
    #[must_use]
    pub const fn spec(self) -> &'static str {
        match self {
            Self::Files => {
                "file: { matchDirectories: [ { dir: /kept/, recursive: true }, { dir: /lower/, recursive: true } ] }\naction: Block"
            }
            Self::ReadOnly => {
                "file: { matchDirectories: [ { dir: /kept/, recursive: true, readOnly: true } ] }\naction: Block"
            }
            Self::OwnerOnly => {
                "file: { matchDirectories: [ { dir: /kept/, recursive: true, ownerOnly: true } ] }\naction: Block"
            }
            Self::Secret => "file: { matchPaths: [ { path: /kept/secret } ] }\naction: Block",
            Self::Source => {
                "file: { matchPaths: [ { path: /kept/secret, fromSource: [ { path: /act/actor } ] } ] }\naction: Block"
            }
            Self::Programs => {
                "process: { matchPaths: [ { path: /kept/tool }, { path: /kept/script }, { path: /kept/dynamic }, { path: /kept/plain } ] }\naction: Block"
            }
            Self::Applet => "process: { matchPaths: [ { path: /free/applet } ] }\naction: Block",
            Self::AllowList => "process: { matchPaths: [ { path: /act/actor }, { path: /kept/tool } ] }\naction: Allow",
            Self::Fileless => "presets: [ { name: filelessExec, action: Block } ]",
            Self::Destination => "network: { destinations: [ { cidr: 127.0.0.0/8, ports: [47811] } ] }\naction: Block",
            Self::Raw => "network: { matchProtocols: [ { protocol: raw }, { protocol: packet } ] }\naction: Block",
            Self::Sockets => "network: { matchProtocols: [ { protocol: all } ] }\naction: Block",
            Self::Names => "network: { matchDNSQueries: [ { domain: blocked.example } ] }\naction: Block",
            Self::Tracing => "ptrace: { match: [ { target: /act/actor } ] }\naction: Block",
            Self::Administration => "capabilities: { matchCapabilities: [ { capability: sys_admin } ] }\naction: Block",
        }
    }

    /// The family of the policy language.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::Files | Self::ReadOnly | Self::OwnerOnly | Self::Secret | Self::Source => Family::File,
            Self::Programs | Self::Applet | Self::AllowList => Family::Process,
            Self::Fileless => Family::Presets,
            Self::Destination | Self::Raw | Self::Sockets => Family::Network,
            Self::Names => Family::Dns,
            Self::Tracing => Family::Ptrace,
            Self::Administration => Family::Capabilities,
        }
    }

    /// As records have it.
    #[must_use]
    pub const fn told_as(self) -> record::Family {
        match self {
            Self::Files | Self::ReadOnly | Self::OwnerOnly | Self::Secret | Self::Source => record::Family::File,
            Self::Programs | Self::Applet | Self::AllowList => record::Family::Process,
            Self::Fileless => record::Family::Preset,
            Self::Destination => record::Family::Connect,
            Self::Raw | Self::Sockets => record::Family::Socket,
            Self::Names => record::Family::Dns,
            Self::Tracing => record::Family::Ptrace,
            Self::Administration => record::Family::Capability,
        }
    }

    /// Compiled as a node compiles it, with blocking postures.
    ///
    /// # Errors
    /// Where a policy is not as the language has it.
    pub fn compiled(self) -> Result<CompiledPolicy, Failed> {
        compiled(&[self.spec()])
    }
}

/// Policies of these specs, compiled together.
///
/// # Errors
/// Where one is not as the language has it.
pub fn compiled(specs: &[&str]) -> Result<CompiledPolicy, Failed> {
    let documents: Vec<String> = specs.iter().enumerate().map(|(number, spec)| document(number, spec)).collect();
    let names: Vec<String> = (0..documents.len()).map(|number| format!("{number}.yaml")).collect();
    let files = names.iter().map(String::as_str).zip(documents.iter().map(String::as_bytes));
    let set = PolicySet::parse(files).map_err(|diagnostics| {
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        Failed(format!("{}\n{}", lines.join("\n"), documents.join("\n")))
    })?;
    let postures =
        Postures { file: Posture::Block, network: Posture::Block, capabilities: Posture::Block, ..Postures::default() };
    let rules = set.rules_for(&workload(), &BTreeMap::new(), postures);
    Ok(compile(&rules, &AutomatonLimits::default(), &mut || false)?)
}

fn document(number: usize, spec: &str) -> String {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\nmetadata: {{ name: attacks-{number}, namespace: default }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: attacks }} }}\n{indented}"
    )
}

fn workload() -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: "attacks".to_owned(),
        namespace: "default".to_owned(),
        container: "attacks".to_owned(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::from([("app".to_owned(), "attacks".to_owned())]),
    }
}
