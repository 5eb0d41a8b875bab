//! `palisade logs`.

use std::process::ExitCode;

use palisade_admin::nodes::NodeMark;
use palisade_domain::Line;
use palisade_world::Clock as _;

use super::{Outcome, nodes};
use crate::{
    admin_client,
    arguments::{FilterArguments, LinesArgument, LogsArguments, NodesArgument, Output},
    clock::MachineClock,
    render, yaml,
};

/// Longest line that is waited for, in bytes: 16 processes of full arguments are well below.
const MAX_LINE_BYTES: usize = 4 << 20;

/// Prints past and, with `--follow`, coming alerts; ends when nobody reads them any more (`| head`), or after `--limit` of them.
///
/// # Errors
/// No node answers, the node ended what was followed, or standard output cannot be written.
pub fn run(arguments: &LogsArguments) -> Outcome {
    let output = arguments.admin.output;
    let (mut lines, mut read, mut printed) = (Lines::default(), true, 0);
    let route = route(arguments, MachineClock.unix().0);
    super::runtime()?.block_on(admin_client::stream(&arguments.admin.admin_socket, &route, |part| {
        read = match lines.whole(part)? {
            Some(whole) => {
                printed += whole.iter().filter(|byte| **byte == b'\n').count() as u64;
                super::print(&text(&whole, output, arguments.follow))?
            }
            None => !super::reader_is_gone(),
        };
        Ok(read)
    }))?;
    if read {
        anyhow::ensure!(
            lines.0.is_empty(),
            "the last alert came cut: the node was stopped while it told it; see `palisade doctor`, and run `palisade logs` again"
        );
        anyhow::ensure!(
            !arguments.follow || arguments.limit.is_some_and(|limit| printed >= limit),
            "the node ended the stream: its alerts actor restarts, or too many follow; run `palisade logs --follow` again"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What the node is asked: it filters, so that nothing is carried in vain.
fn route(arguments: &LogsArguments, now_unix_ns: u64) -> String {
    let FilterArguments {
        namespace,
        pod,
        container,
        operation,
        source,
        resource,
        policy,
        severity,
        verdict,
        labels,
        since,
    } = &arguments.filters;
    let mut route = format!("/v1/alerts?recent={}&follow={}", arguments.recent, arguments.follow);
    if arguments.nodes == NodesArgument::All {
        route += "&nodes=all";
    }
    match arguments.filter {
        LinesArgument::Policy => {}
        LinesArgument::System => route += "&filter=system",
        LinesArgument::All => route += "&filter=all",
    }
    let texts = [
        ("namespace", namespace),
        ("pod", pod),
        ("container", container),
        ("operation", operation),
        ("source", source),
        ("resource", resource),
        ("policy", policy),
        ("verdict", verdict),
        ("labels", labels),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            route += &format!("&{name}={}", percent_encoded(text));
        }
    }
    let since = since.map(|age| now_unix_ns.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
    let numbers = [("severity", severity.map(u64::from)), ("limit", arguments.limit), ("since", since)];
    for (name, number) in numbers {
        if let Some(number) = number {
            route += &format!("&{name}={number}");
        }
    }
    route
}

/// RFC 3986: all but the unreserved characters.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// What has come of a line that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// The whole lines that `part` ends, if it ends any.
    pub(super) fn whole(&mut self, part: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(end) = part.iter().rposition(|byte| *byte == b'\n') else {
            self.0.extend_from_slice(part);
            anyhow::ensure!(
                self.0.len() <= MAX_LINE_BYTES,
                "a line is longer than {MAX_LINE_BYTES} bytes: see that `palisade version` is that of the node"
            );
            return Ok(None);
        };
        let (ended, begun) = part.split_at(end + 1);
        self.0.extend_from_slice(ended);
        Ok(Some(std::mem::replace(&mut self.0, begun.to_vec())))
    }
}

/// Lines as they are shown. One that this version does not understand is shown as it came.
fn text(whole: &[u8], output: Output, follow: bool) -> String {
    let text = String::from_utf8_lossy(whole);
    let shown = |line: &str| match output {
        Output::Json => render::printable_json(line) + "\n",
        Output::Yaml => serde_json::from_str(line).map_or_else(
            |_| format!("# {}\n", render::printable(line)),
            |alert: serde_json::Value| format!("---\n{}", yaml::document(&alert)),
        ),
        Output::Text => serde_json::from_str::<Line>(line).map_or_else(
            |_| mark(line, follow).unwrap_or_else(|| render::printable(line) + "\n"),
            |line| render::line(&line),
        ),
    };
    text.lines().map(shown).collect()
}

/// The mark of a node, before the alerts of all, or among those that come.
fn mark(line: &str, follow: bool) -> Option<String> {
    let NodeMark { link, omitted, note } = serde_json::from_str(line).ok()?;
    let what = if follow { "were lost" } else { "more were left out" };
    let omitted = if omitted > 0 { format!("; {omitted} {what}") } else { String::new() };
    let note = note.map(|note| format!("; {}", render::printable(&note))).unwrap_or_default();
    let heading = if follow { nodes::state(&link) } else { nodes::heading(&link, link.alerts_age_ms) };
    Some(format!("# {}{omitted}{note}\n", heading))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arguments::Palisade, configuration::command_line};
    use clap::FromArgMatches as _;
    use palisade_domain::Verdict;

    fn asked(words: &[&str]) -> LogsArguments {
        let words = ["palisade", "logs"].iter().chain(words);
        let matches = command_line::command(&Default::default()).try_get_matches_from(words).expect("understood");
        let Ok(Palisade { command: crate::arguments::Command::Logs(logs), .. }) = Palisade::from_arg_matches(&matches)
        else {
            panic!("logs")
        };
        logs
    }

    #[test]
    fn unit_logs_ask_the_node_to_filter_whatever_the_filter_holds() {
        let logs = asked(&[
            "--resource",
            "/a b&c=*é",
            "--severity",
            "5",
            "--since",
            "2m",
            "--limit",
            "3",
            "-n",
            "7",
            "--follow",
        ]);
        let expected =
            "/v1/alerts?recent=7&follow=true&resource=%2Fa%20b%26c%3D%2A%C3%A9&severity=5&limit=3&since=80000000000";
        assert_eq!(route(&logs, 200_000_000_000), expected);
        let system = "/v1/alerts?recent=100&follow=true&filter=system";
        assert_eq!(route(&asked(&["--filter", "system", "--follow"]), 0), system);
        let followed = "/v1/alerts?recent=100&follow=true&nodes=all";
        assert_eq!(route(&asked(&["--nodes", "all", "--follow"]), 0), followed);
        let of_all = "/v1/alerts?recent=100&follow=false&nodes=all";
        assert_eq!(route(&asked(&["--nodes", "all"]), 0), of_all);
        assert_eq!(route(&asked(&[]), 0), "/v1/alerts?recent=100&follow=false");
    }

    #[test]
    fn unit_logs_refuse_what_could_only_be_an_empty_answer() {
        let refused = |words: &[&str]| {
            let words = ["palisade", "logs"].iter().chain(words);
            command_line::command(&Default::default())
                .try_get_matches_from(words)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        let misspelt = refused(&["--verdict", "denied,kill"]).expect_err("no such verdict");
        assert!(misspelt.contains("no line has `kill`: did you mean `killed`?"), "{misspelt}");
        refused(&["--verdict", "denied, killed,un*"]).expect("all of them are some");
        for verdict in [Verdict::Denied, Verdict::Killed, Verdict::Observed, Verdict::Unenforceable] {
            let name = serde_json::to_value(verdict).expect("a word");
            refused(&["--verdict", name.as_str().expect("a word")]).expect("as alerts write it");
        }
        let past = refused(&["--filter", "system"]).expect_err("no logs are kept");
        assert!(past.contains("--follow"), "{past}");
    }

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
    fn unit_logs_say_of_each_node_how_it_is_before_the_alerts_of_all() {
        let line = br#"{"link":{"node":"b","state":"out","since":"then","why":"it does not answer","alertsAgeMs":2500},"omitted":3}"#;
        let expected = "# b is out since then: it does not answer (as it said 2.5 s ago); 3 more were left out\n";
        assert_eq!(text(line, Output::Text, false), expected);
        let line = br#"{"link":{"node":"b","state":"linked","since":"then"},"omitted":3,"note":"some may be missing"}"#;
        assert_eq!(text(line, Output::Text, true), "# b is linked since then; 3 were lost; some may be missing\n");
    }

    #[test]
    fn unit_logs_let_no_workload_write_to_the_terminal_in_any_form() {
        let hostile = "{\"x\":\"\u{9b}2J\u{7f}\u{202e}\"}\n".as_bytes();
        for output in [Output::Json, Output::Yaml, Output::Text] {
            let shown = text(hostile, output, false);
            assert!(shown.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{shown:?}");
        }
        let shown = text(hostile, Output::Json, false);
        let json: serde_json::Value = serde_json::from_str(&shown).expect("still JSON");
        assert_eq!(json["x"], "\u{9b}2J\u{7f}\u{202e}", "and still the same");
    }
}
