//! Figures, and how they are shown: the median of what was repeated.

use serde_json::{Value, json};

use crate::chat::Chat;

/// Which way messages went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One `starlingd`, alone.
    InProcess,
    Routed,
    Relay,
}

impl Way {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::InProcess => "in process",
            Self::Routed => "routed",
            Self::Relay => "relay",
        }
    }
}

/// What one repetition came to: microseconds of CPU per message, milliseconds of latency.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Each instance; senders' first, where only one has them.
    pub(super) pods: Vec<f64>,
    pub(super) router: Option<f64>,
    pub(super) redis: Option<f64>,
    pub(super) postgres: Option<f64>,
    pub(super) per_second: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Sample {
    /// Of processes that were watched in the order of a cluster's, or of one that was alone.
    pub(super) fn new(chat: &Chat) -> Self {
        let (pods, router, redis, postgres) = match &chat.cpu_us[..] {
            [pods @ .., router, redis, postgres] => (pods.to_vec(), Some(*router), Some(*redis), Some(*postgres)),
            alone => (alone.to_vec(), None, None, None),
        };
        let millis = |latency: std::time::Duration| latency.as_secs_f64() * 1e3;
        let (p50, p99, max) = (millis(chat.p50), millis(chat.p99), millis(chat.max));
        Self { pods, router, redis, postgres, per_second: chat.per_second, p50, p99, max }
    }

    /// Of all processes that are ours.
    fn ours(&self) -> f64 {
        self.pods.iter().sum::<f64>() + self.router.unwrap_or_default()
    }
}

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) scenario: String,
    pub(super) way: Way,
    pub(super) samples: Vec<Sample>,
}

impl Row {
    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = values.get(middle).copied().unwrap_or(f64::NAN);
        if values.len() % 2 == 1 {
            return upper;
        }
        middle.checked_sub(1).and_then(|below| values.get(below)).map_or(upper, |lower| (lower + upper) / 2.0)
    }

    fn range(&self, of: impl Fn(&Sample) -> f64) -> String {
        let (least, most) = self
            .samples
            .iter()
            .map(of)
            .fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
        format!("{least:.1}–{most:.1}")
    }

    /// What is not a process of ours, or not one at all, is not shown.
    fn optional(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        self.samples
            .iter()
            .all(|sample| of(sample).is_some())
            .then(|| self.median(|sample| of(sample).unwrap_or_default()))
    }

    fn pods(&self) -> Vec<f64> {
        let count = self.samples.iter().map(|sample| sample.pods.len()).min().unwrap_or_default();
        (0..count).map(|pod| self.median(|sample| sample.pods.get(pod).copied().unwrap_or_default())).collect()
    }

    /// In the order of [`HEAD`].
    fn cells(&self) -> [String; HEAD.len()] {
        let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let pods: Vec<_> = self.pods().iter().map(|pod| format!("{pod:.1}")).collect();
        [
            self.scenario.clone(),
            self.way.as_str().to_owned(),
            format!("{:.1}", self.median(Sample::ours)),
            self.range(Sample::ours),
            pods.join(" + "),
            shown(self.optional(|sample| sample.router)),
            shown(self.optional(|sample| sample.redis)),
            shown(self.optional(|sample| sample.postgres)),
            format!("{:.0}", self.median(|sample| sample.per_second)),
            format!("{:.2}", self.median(|sample| sample.p50)),
            format!("{:.2}", self.median(|sample| sample.p99)),
            format!("{:.2}", self.median(|sample| sample.max)),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "way": self.way.as_str(),
            "unit": "us CPU/message",
            "ours": self.median(Sample::ours),
            "pods": self.pods(),
            "router": self.optional(|sample| sample.router),
            "redis": self.optional(|sample| sample.redis),
            "postgres": self.optional(|sample| sample.postgres),
            "per_second": self.median(|sample| sample.per_second),
            "p50_ms": self.median(|sample| sample.p50),
            "p99_ms": self.median(|sample| sample.p99),
            "max_ms": self.median(|sample| sample.max),
            "repetitions": self.samples.len(),
        })
    }
}

const HEAD: [&str; 12] = [
    "scenario",
    "way",
    "ours µs",
    "min–max",
    "instances",
    "router",
    "Redis",
    "PostgreSQL",
    "messages/s",
    "p50 ms",
    "p99 ms",
    "max ms",
];
const WIDTHS: [usize; HEAD.len()] = [34, 10, 7, 11, 20, 6, 5, 10, 10, 7, 7, 8];

fn aligned(cells: &[String; HEAD.len()]) -> String {
    let aligned = cells.iter().zip(WIDTHS).enumerate().map(|(column, (cell, width))| match column {
        0 | 1 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    aligned.collect::<Vec<_>>().join(" ")
}

/// The line above all others.
pub(super) fn head() -> String {
    aligned(&HEAD.map(str::to_owned))
}

/// One line of a terminal's table.
pub(super) fn line(row: &Row) -> String {
    aligned(&row.cells())
}

/// The whole as Markdown.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut lines = vec![format!("| {} |", HEAD.join(" | ")), format!("|{}|", ["---"; HEAD.len()].join("|"))];
    lines.extend(rows.iter().map(|row| format!("| {} |", row.cells().join(" | "))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: &[f64]) -> Row {
        let sample = |pod: &f64| Sample { pods: vec![*pod, 1.0], router: Some(2.0), ..Sample::default() };
        Row { scenario: "chat".to_owned(), way: Way::Routed, samples: ours.iter().map(sample).collect() }
    }

    #[test]
    fn a_row_shows_the_median_and_how_far_repetitions_were_from_each_other() {
        let cells = row(&[30.0, 10.0, 12.0]).cells();
        assert_eq!(cells[2..6], ["15.0", "13.0–33.0", "12.0 + 1.0", "2.0"].map(str::to_owned));
        assert_eq!(row(&[10.0, 20.0]).cells()[2], "18.0");
    }

    #[test]
    fn what_nobody_measured_is_not_shown_as_nothing() {
        assert_eq!(row(&[1.0]).cells()[6], "–");
    }

    #[test]
    fn markdown_has_a_cell_for_each_column_of_its_head() {
        let table = markdown(&[row(&[1.0])]);
        let cells: Vec<_> = table.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(cells, [HEAD.len() + 1; 3]);
    }
}
