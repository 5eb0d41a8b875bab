//! The table that all benchmarks are printed as.

use std::fmt;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds of real time.
    Nanoseconds,
    /// Milliseconds of real time.
    Milliseconds,
    /// Instructions that the guest executed.
    Instructions,
    /// Bytes.
    Bytes,
    /// 2^10 bytes.
    Kibibytes,
}

impl fmt::Display for Unit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Instructions => "instructions",
            Self::Bytes => "bytes",
            Self::Kibibytes => "KiB",
        })
    }
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what; the baseline and the budget too.
    pub unit: Unit,
    /// What it is compared with, measured in the same run.
    pub baseline: Option<(String, f64)>,
    /// At most this much.
    pub budget: Option<f64>,
}

/// Rows in order of measurement.
#[derive(Debug, Clone, Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds a measurement.
    pub fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    fn cells(&self) -> Vec<[String; 5]> {
        let heading = ["measured", "value", "baseline of the same run", "ratio", "budget"].map(str::to_owned);
        std::iter::once(heading).chain(self.0.iter().map(cells)).collect()
    }
}

fn cells(row: &Row) -> [String; 5] {
    let (baseline, ratio) = match &row.baseline {
        Some((name, value)) => (format!("{name}: {}", number(*value)), format!("{:.2}", row.value / value)),
        None => (String::new(), String::new()),
    };
    let budget = match row.budget {
        Some(budget) if row.value > budget => format!("OVER {}", number(budget)),
        Some(budget) => format!("under {}", number(budget)),
        None => String::new(),
    };
    [row.what.clone(), format!("{} {}", number(row.value), row.unit), baseline, ratio, budget]
}

/// Three digits at least, no more than that after the point.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.cells();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..5).map(width).collect();
        for (number, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(out, "| {cell:<width$} ")?;
            }
            writeln!(out, "|")?;
            if number == 0 {
                widths.iter().try_for_each(|width| write!(out, "|{:-<1$}", "", width + 2))?;
                writeln!(out, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_table_shows_ratio_and_whether_the_budget_holds() {
        let mut table = Table::default();
        let row = |value, budget| Row {
            what: "an open".into(),
            value,
            unit: Unit::Instructions,
            baseline: Some(("bare".into(), 200.0)),
            budget: Some(budget),
        };
        table.add(row(500.0, 4500.0));
        table.add(row(500.0, 100.0));
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("| 500 instructions | bare: 200") && lines[2].contains("| 2.50"), "{text}");
        assert!(lines[2].contains("| under 4500") && lines[3].contains("| OVER 100"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
    }
}
