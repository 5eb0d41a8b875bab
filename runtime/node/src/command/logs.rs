//! `palisade logs`.

use std::process::ExitCode;

use palisade_domain::Alert;

use super::Outcome;
use crate::{
    admin_client,
    arguments::{LogsArguments, Output},
    render,
};

/// Longest line that is waited for, in bytes: 16 processes of full arguments are well below.
const MAX_LINE_BYTES: usize = 4 << 20;

/// Prints past and, with `--follow`, coming alerts.
///
/// # Errors
/// No node answers, or standard output cannot be written.
pub fn run(arguments: &LogsArguments) -> Outcome {
    let route = format!("/v1/alerts?recent={}&follow={}", arguments.recent, arguments.follow);
    let mut rest = Vec::new();
    let output = arguments.admin.output;
    super::runtime()?.block_on(admin_client::get(&arguments.admin.admin_socket, &route, |part| {
        rest.extend_from_slice(part);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            anyhow::ensure!(rest.len() <= MAX_LINE_BYTES, "a line is longer than {MAX_LINE_BYTES} bytes");
            return Ok(());
        };
        let whole: Vec<u8> = rest.drain(..=end).collect();
        super::print(&lines(&whole, output))
    }))?;
    Ok(ExitCode::SUCCESS)
}

fn lines(whole: &[u8], output: Output) -> String {
    let text = String::from_utf8_lossy(whole);
    match output {
        Output::Json => text.into_owned(),
        // What this version does not understand is shown as it came.
        Output::Text => text
            .lines()
            .map(|line| {
                serde_json::from_str::<Alert>(line).map_or_else(|_| format!("{line}\n"), |alert| render::alert(&alert))
            })
            .collect(),
    }
}
