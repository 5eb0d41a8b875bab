//! The runtime's own log, on standard error: standard output is for alerts.
//!
//! Invariant: whatever text came from a workload, a line of text is one line and moves no cursor; JSON is one object a line. Spans carry
//! the actor's name and generation (`actor{actor=alerts generation=2}`). No secret reaches it: tokens have no printable form.

use std::{fmt, io::IsTerminal as _};

use anyhow::Context as _;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, JsonFields, Writer},
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

use crate::{arguments::LogFormat, render};

/// What stands before every directive. Of the HTTP server only what goes wrong: it names sockets by names of a moment. Nothing of what is
/// wrong with requests, which are answered: who may connect to the loopback port is not who may fill the log.
const QUIET: &str = "actix_server=warn,actix_http=off";

/// Changes what is logged while it is.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// From now on by these directives.
    ///
    /// # Errors
    /// They are not understood; what was logged is.
    pub fn set(&self, directives: &str) -> anyhow::Result<()> {
        self.0.reload(filter(directives)?).context("the log")
    }
}

/// Begins to log.
///
/// # Errors
/// The directives are not understood.
pub fn begin(format: LogFormat, directives: &str) -> anyhow::Result<LogLevel> {
    let (filter, handle) = reload::Layer::new(filter(directives)?);
    let colour = std::io::stderr().is_terminal() && render::may_colour();
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => registry.with(lines.with_ansi(false).event_format(Text::new(colour))).init(),
        LogFormat::Json => registry.with(lines.fmt_fields(JsonFields::new()).event_format(JsonLine::new())).init(),
    }
    Ok(LogLevel(handle))
}

fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    let directives = if directives.is_empty() { "info" } else { directives };
    EnvFilter::try_new(format!("{QUIET},{directives}")).with_context(|| format!("log level `{directives}`"))
}

/// A line for people.
struct Text {
    /// Without time and level, which are of us and may have colour; the rest is escaped as a whole.
    rest: Format<tracing_subscriber::fmt::format::Full, ()>,
    colour: bool,
}

impl Text {
    fn new(colour: bool) -> Self {
        Self { rest: Format::default().without_time().with_level(false).with_ansi(false), colour }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Text {
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        let level = *event.metadata().level();
        let paint = match level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            Level::DEBUG => "34",
            Level::TRACE => "35",
        };
        if self.colour {
            write!(writer, " \u{1b}[{paint}m{level:>5}\u{1b}[0m ")?;
        } else {
            write!(writer, " {level:>5} ")?;
        }
        let mut line = String::new();
        self.rest.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{}", render::printable(line.trim_end_matches('\n')))
    }
}

/// A line for machines: the library's JSON, in which C1 controls and marks of direction are escaped as well.
struct JsonLine(Format<Json>);

impl JsonLine {
    fn new() -> Self {
        Self(Format::default().json().flatten_event(false).with_current_span(false).with_span_list(true))
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{}", render::printable_json(line.trim_end_matches('\n')))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("whole").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Captured {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("whole").clone()).expect("text")
        }
    }

    fn say() {
        let actor = tracing::error_span!("actor", actor = "alerts", generation = 2);
        let _in = actor.enter();
        tracing::warn!(path = "/tmp/\u{1b}[2J\n\u{202e}x", "a \u{9b}workload's {}", "name\r");
    }

    #[test]
    fn unit_log_lets_no_workload_write_to_the_terminal_in_either_form() {
        let text = Captured::default();
        let lines =
            tracing_subscriber::fmt::layer().with_writer(text.clone()).with_ansi(false).event_format(Text::new(false));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), say);
        let text = text.text();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(text.trim_end().chars().all(|c| (' '..='~').contains(&c)), "{text:?}");
        assert!(text.contains(" WARN actor{actor=\"alerts\" generation=2}: ") && text.contains("[2J"), "{text:?}");

        let json = Captured::default();
        let lines = tracing_subscriber::fmt::layer().with_writer(json.clone());
        let lines = lines.fmt_fields(JsonFields::new()).event_format(JsonLine::new());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), say);
        let json = json.text();
        assert!(json.trim_end_matches('\n').chars().all(|c| (' '..='~').contains(&c)), "{json:?}");
        let value: serde_json::Value = serde_json::from_str(&json).expect("one object");
        assert_eq!(value["fields"]["path"], "/tmp/\u{1b}[2J\n\u{202e}x", "the same text");
        assert_eq!(
            (&value["spans"][0]["actor"], &value["spans"][0]["generation"]),
            (&"alerts".into(), &2.into()),
            "{value}"
        );
        assert_eq!(value["level"], "WARN");
    }

    #[test]
    fn unit_log_understands_levels_and_directives_and_refuses_the_rest() {
        for good in ["", "info", "debug", "info,palisade_kernel=trace", "off"] {
            filter(good).expect(good);
        }
        assert!(filter("palisade=loud").is_err());
    }
}
