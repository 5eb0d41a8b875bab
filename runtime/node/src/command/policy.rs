//! `palisade policy`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use palisade_domain::{PolicyKind, WorkloadKind};
use palisade_enforcer::unheld::not_held;
use palisade_kernel::matrix;
use palisade_policy::{Diagnostic, MAX_FILE_BYTES, Policy, PolicyFile, PolicySet, Severity, ir::WorkloadRules};
use palisade_protocol::NotHeld;
use palisade_store::FileDirectory;
use palisade_world::{KernelMatrix, PolicyDirectory as _};
use rustix::fs::{OFlags, fcntl_setfl};
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
            super::complain(&format!("{error}: name a policy file, or a directory of them"));
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
        let rules = WorkloadRules { rules: policy.rules.clone(), ..WorkloadRules::default() };
        let kind = match policy.reference.kind {
            PolicyKind::KubeArmorHostPolicy => WorkloadKind::Host,
            _ => WorkloadKind::Container,
        };
        self.not_held_of(&rules, kind)
    }

    /// What it cannot hold of all rules of a workload of this kind.
    pub(super) fn not_held_of(&self, rules: &WorkloadRules, kind: WorkloadKind) -> Vec<NotHeld> {
        match self {
            Self::Asked(matrix) if kind == WorkloadKind::Host => not_held(rules, &matrix::families_of_host(matrix)),
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
    render::printable(&format!("{at}unenforceable on this kernel: `{what}` of {places}{more}, {reason}")) + "\n"
}

/// All files of the paths, read as policies.
///
/// # Errors
/// The first path that cannot be read; a file in a directory that cannot is a refusal of that file.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<Vec<PolicyFile>, String> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(read(path)?);
    }
    Ok(files)
}

/// Readings tried before a file counts as never settling.
const ATTEMPTS: u32 = 5;

/// A file's content, if the parser would look at it: what has no end (a device) is not read to it, a pipe that nobody writes to is not
/// waited for, and a file that changes while it is read is read again.
///
/// # Errors
/// The operating system's, files past [`MAX_FILE_BYTES`], and what never settles.
pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    for _ in 0..ATTEMPTS {
        if let Some(content) = read_once(path)? {
            return Ok(content);
        }
    }
    Err(io::Error::other("it changes all the time while it is read; try again when it is written"))
}

/// Nothing where the file changed meanwhile.
fn read_once(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    // Only the opening is not to wait: who writes to a pipe may take his time.
    fcntl_setfl(&file, OFlags::empty())?;
    let before = file.metadata()?;
    let mut content = Vec::new();
    file.by_ref().take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes; split it into several files")));
    }
    if before.file_type().is_fifo() && content.is_empty() {
        return Err(io::Error::other("it is a pipe that nobody writes to"));
    }
    let after = file.metadata()?;
    let stands = |of: &fs::Metadata| (of.len(), of.mtime(), of.mtime_nsec());
    Ok((!before.is_file() || stands(&before) == stands(&after)).then_some(content))
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

/// A file (`-`: standard input), or the policy files of a directory as the node would read them.
pub(super) fn read(path: &Path) -> Result<Vec<PolicyFile>, String> {
    if path.is_dir() {
        let reading = FileDirectory::new(path).read().map_err(|error| error.to_string())?;
        let named = |name: &str| path.join(name).display().to_string();
        let good = reading.files.iter().map(|file| PolicyFile::parse(&named(&file.name), &file.content));
        let bad = reading.unreadable.iter().map(|file| unreadable(&named(&file.name), &file.reason));
        return Ok(good.chain(bad).collect());
    }
    let source = if super::is_standard_stream(path) { Path::new("/dev/stdin") } else { path };
    let content = read_bounded(source).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(vec![PolicyFile::parse(&path.display().to_string(), &content)])
}

/// What stands for a file of a directory that cannot be read: a node would leave it out, or keep what it last held.
fn unreadable(name: &str, reason: &str) -> PolicyFile {
    let found = Diagnostic {
        file: name.to_owned(),
        line: 1,
        column: 1,
        severity: Severity::Error,
        what: "the file cannot be read".to_owned(),
        why: reason.to_owned(),
        instead: "mend it, or take it out of the directory".to_owned(),
    };
    PolicyFile {
        name: Arc::from(name),
        policies: Vec::new(),
        namespaces: Vec::new(),
        diagnostics: vec![found],
        rule_bytes: 0,
    }
}
