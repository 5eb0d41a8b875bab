//! `palisade config`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Map, Value, json};

use super::Outcome;
use crate::{
    arguments::{ConfigCommand, Output},
    configuration::{
        command_line::{CommandLine, Source},
        file,
        schema::schema,
    },
    render,
};

/// Runs a configuration command.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(line: &CommandLine, config: &PathBuf, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Validate { file, output } => validate(file.as_ref().unwrap_or(config), output),
        ConfigCommand::Show { output, .. } => show(line, output),
        ConfigCommand::Schema => {
            super::print(&format!("{:#}\n", schema()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn validate(path: &Path, output: Output) -> Outcome {
    let shown = path.display().to_string();
    let content = match file::content(path) {
        Ok(content) => content,
        Err(error) => {
            super::to_stderr(&format!(
                "palisade: {}: {error}: name a file, or write one: `palisade config show` tells what holds without",
                render::printable(&shown)
            ));
            return Ok(ExitCode::from(2));
        }
    };
    let (values, problems) = file::read(&shown, &content);
    let valid = !problems.iter().any(|problem| problem.severity.refuses());
    let text = match output {
        Output::Text => {
            let lines: String = problems.iter().map(|problem| render::printable(&problem.to_string()) + "\n").collect();
            format!("{lines}{} settings, {} problems\n", values.len(), problems.len())
        }
        output => {
            render::document(output, &json!({ "valid": valid, "settings": values.len(), "diagnostics": problems }))
        }
    };
    super::print(&text)?;
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(line: &CommandLine, output: Output) -> Outcome {
    let effective = line.effective();
    let text = match output {
        Output::Text => {
            let mut text = format!("{:<28} {:<40} FROM\n", "SETTING", "VALUE");
            for (name, (values, source)) in &effective {
                let value = if values.is_empty() { "-".to_owned() } else { values.join(", ") };
                let source = match source {
                    Source::File => line.file.path.display().to_string(),
                    source => format!("{source:?}").to_lowercase(),
                };
                text += &render::printable(&format!("{name:<28} {value:<40} {source}"));
                text.push('\n');
            }
            text
        }
        output => {
            let settings: Map<String, Value> = effective
                .iter()
                .map(|(name, (values, source))| {
                    (name.clone(), json!({ "value": values.join(","), "set": !values.is_empty(), "from": source }))
                })
                .collect();
            let file = json!({ "path": line.file.path.display().to_string(), "problems": line.file.complaints() });
            render::document(output, &json!({ "file": file, "settings": settings }))
        }
    };
    super::print(&text)?;
    for complaint in line.file.complaints() {
        super::complain(&complaint);
    }
    // What a node would not start with is not well.
    Ok(if line.file.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
