//! `palisade policy`.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use palisade_enforcer::unheld::not_held;
use palisade_policy::{Diagnostic, MAX_FILE_BYTES, Policy, PolicyFile, PolicySet, Severity, ir::WorkloadRules};
use palisade_protocol::NotHeld;
use palisade_store::FileDirectory;
use palisade_world::{KernelMatrix, PolicyDirectory as _};
use serde_json::json;

use super::{Outcome, policy_explain, policy_test};
use crate::{
    arguments::{Output, PolicyCommand},
    node::view,
    render,
};

/// Runs a policy command.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(command: PolicyCommand) -> Outcome {
    match command {
        PolicyCommand::Validate { paths, no_kernel, strict, output } => validate(&paths, no_kernel, strict, output),
        PolicyCommand::Explain(arguments) => policy_explain::run(&arguments),
        PolicyCommand::Test { files, output } => policy_test::run(&files, output),
    }
}

/// Exit status 1 where a document is refused, and with `strict` where a part of one is not held.
fn validate(paths: &[PathBuf], no_kernel: bool, strict: bool, output: Output) -> Outcome {
    let files = match read_all(paths) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("palisade: {}: name a policy file, or a directory of them", render::printable(&error));
            return Ok(ExitCode::from(2));
        }
    };
    let (set, duplicates) = PolicySet::assemble(&files);
    // Each alone: together they may still be too much for one workload, which only a node can know.
    let too_large: Vec<Diagnostic> = set.iter().filter_map(|policy| refused_by_the_compiler(policy)).collect();
    let found: Vec<&Diagnostic> =
        files.iter().flat_map(|file| &file.diagnostics).chain(&duplicates).chain(&too_large).collect();
    let refused = found.iter().filter(|found| found.severity.refuses()).count();
    let kernel = Kernel::ask(no_kernel);
    let not_held: Vec<NotHeld> = set.iter().flat_map(|policy| kernel.not_held(policy)).collect();
    let unheld = not_held.len() + found.iter().filter(|found| found.severity == Severity::Unenforceable).count();
    let text = match output {
        Output::Json | Output::Yaml => {
            let policies: Vec<String> = set.iter().map(|policy| policy.reference.to_string()).collect();
            let by_kernel: Vec<serde_json::Value> = not_held.iter().map(view::not_held).collect();
            let document = json!({
                "valid": refused == 0, "policies": policies, "diagnostics": found,
                "kernel": kernel.release(), "notHeldByKernel": by_kernel,
            });
            render::document(output, &document)
        }
        Output::Text => {
            let problems: String = found.iter().map(|found| format!("{found}\n")).collect();
            let by_kernel: String = not_held.iter().map(|part| not_held_line(&set, part)).collect();
            let (policies, files) = (set.len(), files.len());
            let asked = kernel.words();
            format!(
                "{problems}{by_kernel}{policies} policies in {files} files, {refused} problems, {unheld} not held ({asked})\n"
            )
        }
    };
    super::print(&text)?;
    let fails = refused > 0 || (strict && unheld > 0);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the kernel at hand holds, if it was asked.
pub(super) enum Kernel {
    Asked(Box<KernelMatrix>),
    NotAsked(&'static str),
}

impl Kernel {
    /// Tries each capability, as root.
    pub(super) fn ask(no_kernel: bool) -> Self {
        match (no_kernel, rustix::process::geteuid().is_root()) {
            (true, _) => Self::NotAsked("this kernel was not asked"),
            (false, false) => Self::NotAsked("this kernel was not asked, for that takes root"),
            (false, true) => Self::Asked(Box::new(palisade_kernel::matrix::probe())),
        }
    }

    /// What it cannot hold of a policy; what nothing holds anywhere is a diagnostic of the policy already.
    fn not_held(&self, policy: &Policy) -> Vec<NotHeld> {
        let Self::Asked(matrix) = self else { return Vec::new() };
        not_held(&WorkloadRules { rules: policy.rules.clone(), ..WorkloadRules::default() }, &matrix.families)
    }

    /// What it cannot hold of all rules of a workload.
    pub(super) fn not_held_of(&self, rules: &WorkloadRules) -> Vec<NotHeld> {
        match self {
            Self::Asked(matrix) => not_held(rules, &matrix.families),
            Self::NotAsked(_) => {
                let anywhere = WorkloadRules { unheld: rules.unheld.clone(), ..WorkloadRules::default() };
                not_held(&anywhere, &std::collections::BTreeMap::new())
            }
        }
    }

    /// Its release, if it was asked.
    pub(super) fn release(&self) -> Option<&str> {
        match self {
            Self::Asked(matrix) => Some(&matrix.release),
            Self::NotAsked(_) => None,
        }
    }

    /// Whether it was asked, for people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Asked(matrix) => format!("kernel {}", matrix.release),
            Self::NotAsked(why) => (*why).to_owned(),
        }
    }
}

fn not_held_line(set: &PolicySet, part: &NotHeld) -> String {
    let NotHeld { policy, what, reason, places, count } = part;
    let at = set.get(policy).map(|policy| format!("{}:{}:{}: ", policy.file, policy.at.line, policy.at.column));
    let (at, places) = (at.unwrap_or_default(), places.join(", "));
    let more = count.saturating_sub(part.places.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{at}unenforceable on this kernel: `{what}` of {places}{more}, {reason}\n")
}

/// All files of the paths, read as policies.
///
/// # Errors
/// The first that cannot be read.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<Vec<PolicyFile>, String> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(read(path)?.iter().map(|(name, bytes)| PolicyFile::parse(name, bytes)));
    }
    Ok(files)
}

/// A file's content, if the parser would look at it: what has no end (a device, a pipe) is not read to it.
///
/// # Errors
/// The operating system's, and files past [`MAX_FILE_BYTES`].
pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes; split it into several files")));
    }
    Ok(content)
}

/// What stands against a policy that is well-formed: it cannot be compiled within a node's bounds.
fn refused_by_the_compiler(policy: &Policy) -> Option<Diagnostic> {
    let rules = WorkloadRules { rules: policy.rules.clone(), ..WorkloadRules::default() };
    let error = policy_test::compile_as_a_node(&rules).err()?;
    Some(Diagnostic {
        file: policy.file.to_string(),
        line: policy.at.line,
        column: policy.at.column,
        severity: Severity::Error,
        what: format!("`{}` cannot be compiled", policy.reference),
        why: error,
        instead: "use fewer `**`, or name directories instead".to_owned(),
    })
}

/// A file, or the policy files of a directory as the node would read them.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    if path.is_dir() {
        let reading = FileDirectory::new(path).read().map_err(|error| error.to_string())?;
        let named = |name: &str| path.join(name).display().to_string();
        return Ok(reading.files.into_iter().map(|file| (named(&file.name), file.content)).collect());
    }
    let content = read_bounded(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(vec![(path.display().to_string(), content)])
}
