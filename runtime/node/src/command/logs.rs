//! `palisade logs`.

use std::process::ExitCode;

use palisade_domain::Line;

use super::Outcome;
use crate::{
    admin_client,
    arguments::{LogsArguments, Output},
    render,
};

/// Longest line that is waited for, in bytes: 16 processes of full arguments are well below.
const MAX_LINE_BYTES: usize = 4 << 20;

/// Prints past and, with `--follow`, coming alerts; ends when nobody reads them any more (`| head`).
///
/// # Errors
/// No node answers, the node ended what was followed, or standard output cannot be written.
pub fn run(arguments: &LogsArguments) -> Outcome {
    let route = format!("/v1/alerts?recent={}&follow={}", arguments.recent, arguments.follow);
    let output = arguments.admin.output;
    let (mut lines, mut read) = (Lines::default(), true);
    super::runtime()?.block_on(admin_client::stream(&arguments.admin.admin_socket, &route, |part| {
        read = match lines.whole(part)? {
            Some(whole) => super::print(&text(&whole, output))?,
            None => !super::reader_is_gone(),
        };
        Ok(read)
    }))?;
    if read {
        anyhow::ensure!(lines.0.is_empty(), "the last alert came cut: the node was stopped while it told it");
        anyhow::ensure!(
            !arguments.follow,
            "the node ended the stream: its alerts actor restarts, or too many follow; run `palisade logs --follow` again"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What has come of a line that is not whole yet.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The whole lines that `part` ends, if it ends any.
    fn whole(&mut self, part: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(end) = part.iter().rposition(|byte| *byte == b'\n') else {
            self.0.extend_from_slice(part);
            anyhow::ensure!(self.0.len() <= MAX_LINE_BYTES, "a line is longer than {MAX_LINE_BYTES} bytes");
            return Ok(None);
        };
        let (ended, begun) = part.split_at(end + 1);
        self.0.extend_from_slice(ended);
        Ok(Some(std::mem::replace(&mut self.0, begun.to_vec())))
    }
}

fn text(whole: &[u8], output: Output) -> String {
    let text = String::from_utf8_lossy(whole);
    match output {
        Output::Json => text.lines().map(|line| render::printable_json(line) + "\n").collect(),
        // What this version does not understand is shown as it came.
        Output::Text => text
            .lines()
            .map(|line| {
                serde_json::from_str::<Line>(line)
                    .map_or_else(|_| render::printable(line) + "\n", |line| render::line(&line))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_logs_keep_a_line_until_it_is_whole() {
        let mut lines = Lines::default();
        assert_eq!(lines.whole(b"{\"a\":").expect("short"), None);
        assert_eq!(lines.whole(b"1}\n{\"b\"").expect("short").as_deref(), Some(&b"{\"a\":1}\n"[..]));
        assert_eq!(lines.whole(b":2}\n").expect("short").as_deref(), Some(&b"{\"b\":2}\n"[..]));
        assert!(lines.0.is_empty());
        lines.whole(&vec![b'x'; MAX_LINE_BYTES]).expect("at the bound");
        lines.whole(b"x").expect_err("past the bound");
    }

    #[test]
    fn unit_logs_let_no_workload_write_to_the_terminal_in_either_form() {
        let hostile = "{\"x\":\"\u{9b}2J\u{7f}\u{202e}\"}\n".as_bytes();
        for output in [Output::Json, Output::Text] {
            let shown = text(hostile, output);
            assert!(shown.trim_end_matches('\n').chars().all(|c| (' '..='~').contains(&c)), "{shown:?}");
        }
        let shown = text(hostile, Output::Json);
        let json: serde_json::Value = serde_json::from_str(&shown).expect("still JSON");
        assert_eq!(json["x"], "\u{9b}2J\u{7f}\u{202e}", "and still the same");
    }
}
