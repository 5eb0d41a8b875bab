//! Metrics as values, and their exposition.

use std::{collections::BTreeSet, fmt};

use palisade_domain::text::printable;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// What every name begins with.
const PREFIX: &str = "palisade";

/// Counter or gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One family of samples. The name is without prefix and without `_total`; a unit is the name's last word (`_bytes`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// `records_lost`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// Label pairs and value.
    pub samples: Vec<(Vec<(&'static str, String)>, u64)>,
}

impl Metric {
    /// A metric of a single sample without labels.
    #[must_use]
    pub fn single(name: &'static str, help: &'static str, kind: MetricKind, value: u64) -> Self {
        Self { name, help, kind, samples: vec![(Vec::new(), value)] }
    }
}

#[derive(Debug)]
struct Snapshot(Vec<Metric>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in &self.0 {
            match metric.kind {
                MetricKind::Counter => {
                    let kind = ConstCounter::new(0_u64).metric_type();
                    let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
                    for (labels, value) in &metric.samples {
                        ConstCounter::new(*value).encode(family.encode_family(&escaped(labels))?)?;
                    }
                }
                MetricKind::Gauge => {
                    let kind = ConstGauge::new(0_i64).metric_type();
                    let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
                    for (labels, value) in &metric.samples {
                        let labels = &escaped(labels);
                        ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX))
                            .encode(family.encode_family(labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The library writes label values as they are; what OpenMetrics wants escaped (backslash, quote, line feed) is escaped here. What a
/// terminal obeys is written as [`printable`] does before: who looks at metrics does so by curl.
fn escaped(labels: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let quoted = |line: &str| printable(line).replace('\\', "\\\\").replace('"', "\\\"");
    // A line feed has an escape of the format's own.
    let escape = |value: &String| value.split('\n').map(quoted).collect::<Vec<_>>().join("\\n");
    labels.iter().map(|(name, value)| (*name, escape(value))).collect()
}

/// Which of Prometheus' two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// The text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// Its `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The text of `metrics`, every name with the prefix `palisade_`.
///
/// # Errors
/// Only if a sample cannot be formatted.
pub fn exposition(metrics: Vec<Metric>, form: Exposition) -> Result<String, fmt::Error> {
    let counters = metrics.iter().filter(|metric| metric.kind == MetricKind::Counter);
    let counters: BTreeSet<String> = counters.map(|metric| format!("{PREFIX}_{}", metric.name)).collect();
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Snapshot(metrics)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(match form {
        Exposition::OpenMetrics => text,
        Exposition::Text => text.lines().filter(|line| *line != "# EOF").map(|line| plain(line, &counters)).collect(),
    })
}

/// A line of OpenMetrics in the text format, where a counter's family has the name of its samples, with `_total`.
fn plain(line: &str, counters: &BTreeSet<String>) -> String {
    let mut words = line.splitn(4, ' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
            format!("# {what} {name}_total {rest}\n")
        }
        _ => format!("{line}\n"),
    }
}
