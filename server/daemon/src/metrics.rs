//! The process's metrics: one registry that every part adds to, and what the kernel says of the process.

mod certificates;
mod process;
mod settings;

use std::fmt::Write as _;

use prometheus::Registry;
use prometheus::proto::MetricType;
use starling_metrics::Register as _;

use crate::error::Result;

pub(crate) use certificates::CertificateCollector;
pub(crate) use process::ProcessCollector;
pub(crate) use settings::SettingsGauges;

/// A registry that holds the process's own metrics already.
///
/// # Errors
/// [`Error::Metrics`](crate::error::Error::Metrics) when a name is taken, which is a fault of the program.
pub(crate) fn registry() -> Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::new()?))?;
    let help = "Always 1; the label says which release runs";
    let build = registry.gauges("starling_build_info", help, &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(registry)
}

/// Every metric of `registry` as a Markdown table: name, type, labels, help.
#[must_use]
pub(crate) fn reference(registry: &Registry) -> String {
    let mut out = String::from("| metric | type | labels | what it says |\n|---|---|---|---|\n");
    for family in registry.gather() {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::UNTYPED => "untyped",
        };
        let mut labels: Vec<&str> =
            family.get_metric().iter().flat_map(|metric| metric.get_label()).map(|label| label.name()).collect();
        labels.sort_unstable();
        labels.dedup();
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let help = family.help().replace('|', "\\|");
        // A String takes everything.
        writeln!(out, "| `{}` | {kind} | {labels} | {help} |", family.name()).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_metric_once_with_type_and_help() {
        let reference = reference(&registry().unwrap());
        let rows: Vec<&str> =
            reference.lines().filter(|line| line.starts_with("| `process_cpu_seconds_total`")).collect();
        assert_eq!(rows.len(), 1, "{reference}");
        assert!(rows[0].contains("| counter |"), "{reference}");
        assert!(reference.contains("| `starling_build_info` | gauge | `version` |"), "{reference}");
    }

    #[test]
    fn the_text_format_has_help_and_type_lines() {
        let text = prometheus::TextEncoder::new().encode_to_string(&registry().unwrap().gather()).unwrap();
        assert!(text.contains("# TYPE process_open_fds gauge"), "{text}");
    }
}
