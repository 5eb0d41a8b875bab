//! `palisade policy`.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use palisade_policy::{Diagnostic, MAX_FILE_BYTES, Policy, PolicyFile, PolicySet, Severity, ir::WorkloadRules};
use palisade_store::FileDirectory;
use palisade_world::PolicyDirectory as _;
use serde_json::json;

use super::{Outcome, policy_test};
use crate::{
    arguments::{Output, PolicyCommand},
    render,
};

/// Runs a policy command.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(command: PolicyCommand) -> Outcome {
    match command {
        PolicyCommand::Validate { paths, output } => validate(&paths, output),
        PolicyCommand::Test { files, output } => policy_test::run(&files, output),
    }
}

fn validate(paths: &[PathBuf], output: Output) -> Outcome {
    let mut files = Vec::new();
    for path in paths {
        match read(path) {
            Ok(read) => files.extend(read),
            Err(error) => {
                eprintln!("palisade: {}: name a policy file, or a directory of them", render::printable(&error));
                return Ok(ExitCode::from(2));
            }
        }
    }
    let files: Vec<PolicyFile> = files.iter().map(|(name, bytes)| PolicyFile::parse(name, bytes)).collect();
    let (set, duplicates) = PolicySet::assemble(&files);
    // Each alone: together they may still be too much for one workload, which only a node can know.
    let too_large: Vec<Diagnostic> = set.iter().filter_map(|policy| refused_by_the_compiler(policy)).collect();
    let found: Vec<&Diagnostic> =
        files.iter().flat_map(|file| &file.diagnostics).chain(&duplicates).chain(&too_large).collect();
    let refused = found.iter().filter(|found| found.severity.refuses()).count();
    let text = match output {
        Output::Json | Output::Yaml => {
            let policies: Vec<String> = set.iter().map(|policy| policy.reference.to_string()).collect();
            let answer = json!({ "valid": refused == 0, "policies": policies, "diagnostics": found });
            render::document(output, &answer)
        }
        Output::Text => {
            let problems: String = found.iter().map(|found| format!("{found}\n")).collect();
            format!("{problems}{} policies in {} files, {refused} problems\n", set.len(), files.len())
        }
    };
    super::print(&text)?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
fn read(path: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    if path.is_dir() {
        let reading = FileDirectory::new(path).read().map_err(|error| error.to_string())?;
        let named = |name: &str| path.join(name).display().to_string();
        return Ok(reading.files.into_iter().map(|file| (named(&file.name), file.content)).collect());
    }
    let content = read_bounded(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(vec![(path.display().to_string(), content)])
}
