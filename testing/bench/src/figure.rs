//! The figures that are held, what Kubernetes 1.36 did on such a machine, and the table of what was measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a figure has to be.
#[derive(Debug, Clone, Copy)]
enum Bar {
    /// Not more than this, in the figure's unit.
    AtMost(f64),
    /// At least so many times what Kubernetes does.
    Times(f64),
}

/// One row.
struct Figure {
    id: &'static str,
    title: &'static str,
    kubernetes: f64,
    unit: &'static str,
    bar: Bar,
    goal: &'static str,
}

const fn figure(
    id: &'static str,
    title: &'static str,
    kubernetes: f64,
    unit: &'static str,
    bar: Bar,
    goal: &'static str,
) -> Figure {
    Figure {
        id,
        title,
        kubernetes,
        unit,
        bar,
        goal,
    }
}

use Bar::{AtMost, Times};

const FIGURES: &[Figure] = &[
    figure(
        "start-ready",
        "fresh start → node Ready",
        3.4,
        "s",
        AtMost(1.0),
        "",
    ),
    figure(
        "start-pod",
        "fresh start → first pod running",
        9.1,
        "s",
        AtMost(1.2),
        "",
    ),
    figure(
        "restart",
        "restart after all processes are gone → pod running",
        4.4,
        "s",
        AtMost(0.6),
        "",
    ),
    figure(
        "idle-memory",
        "idle resident memory of all processes",
        776.0,
        "MB",
        AtMost(80.0),
        "",
    ),
    figure("idle-cpu", "idle CPU, of one core", 4.8, "%", AtMost(1.0), ""),
    figure(
        "pod-memory",
        "private memory per pod beside the application's",
        4.7,
        "MB",
        AtMost(1.0),
        "0.3",
    ),
    figure(
        "pod-p50",
        "pod create → Running seen by a watch, one at a time, p50",
        520.0,
        "ms",
        AtMost(100.0),
        "50",
    ),
    figure("pod-p99", "the same, p99", 586.0, "ms", AtMost(200.0), ""),
    figure(
        "thirty",
        "thirty pods at once, until all run",
        4.8,
        "s",
        AtMost(1.0),
        "0.5",
    ),
    figure(
        "deployment",
        "Deployment of three: create → all Ready",
        791.0,
        "ms",
        AtMost(200.0),
        "",
    ),
    figure(
        "endpoint",
        "pod becomes an endpoint → first connection through the ClusterIP",
        14.0,
        "ms",
        AtMost(5.0),
        "",
    ),
    figure(
        "service",
        "Service created → first connection",
        1035.0,
        "ms",
        AtMost(50.0),
        "",
    ),
    figure(
        "deletion",
        "pod deletion, a process that ends on SIGTERM, p50",
        593.0,
        "ms",
        AtMost(100.0),
        "",
    ),
    figure(
        "container",
        "container create + start + exit (Kubernetes: crun; ratio to crun of the same run)",
        10.8,
        "ms",
        AtMost(3.6),
        "",
    ),
    figure(
        "create-1",
        "durable pod creates, 1 client",
        605.0,
        "/s",
        Times(5.0),
        "10×",
    ),
    figure(
        "create-16",
        "durable pod creates, 16 clients",
        1220.0,
        "/s",
        Times(5.0),
        "10×",
    ),
    figure(
        "create-64",
        "durable pod creates, 64 clients",
        1449.0,
        "/s",
        Times(5.0),
        "10×",
    ),
    figure("get", "GET, 64 clients", 4320.0, "/s", Times(5.0), ""),
    figure("patch", "merge-patch, 16 clients", 779.0, "/s", Times(5.0), ""),
    figure(
        "list",
        "LIST of 5,000 pods, 4 clients",
        4.0,
        "/s",
        Times(30.0),
        "",
    ),
    figure(
        "watch",
        "500 watchers, 100 changes/s: write → delivery, p99",
        26.0,
        "ms",
        AtMost(10.0),
        "",
    ),
    figure(
        "load-memory",
        "resident memory after that load",
        1855.0,
        "MB",
        AtMost(200.0),
        "",
    ),
    figure(
        "binary",
        "binary (Kubernetes: the API server alone)",
        150.0,
        "MB",
        AtMost(30.0),
        "",
    ),
];

/// What was measured, or why it was not.
#[derive(Default)]
pub(crate) struct Report {
    found: BTreeMap<&'static str, Found>,
}

enum Found {
    Value {
        value: f64,
        remark: String,
        peer: Option<f64>,
    },
    Failure(String),
}

impl Report {
    /// Records a figure, in its unit.
    pub(crate) fn set(&mut self, id: &'static str, value: f64) {
        self.set_with(id, value, String::new());
    }

    /// The same with a remark that stands beside it.
    pub(crate) fn set_with(&mut self, id: &'static str, value: f64, remark: String) {
        self.set_beside(id, value, None, remark);
    }

    /// The same, where a peer was measured in the same run: the ratio is to that.
    pub(crate) fn set_beside(&mut self, id: &'static str, value: f64, peer: Option<f64>, remark: String) {
        self.insert(id, Found::Value { value, remark, peer });
    }

    fn insert(&mut self, id: &'static str, found: Found) {
        debug_assert!(FIGURES.iter().any(|figure| figure.id == id), "{id} is no figure");
        if let Found::Value { value, remark, .. } = &found {
            eprintln!("  {id}: {value:.3} {remark}");
        }
        self.found.insert(id, found);
    }

    /// Says why those of `ids` that were not recorded are missing.
    pub(crate) fn fail(&mut self, ids: &[&'static str], reason: &str) {
        let line = reason.lines().collect::<Vec<_>>().join(" ");
        let short: String = line.chars().take(160).collect();
        for id in ids {
            self.found
                .entry(id)
                .or_insert_with(|| Found::Failure(short.clone()));
        }
    }

    /// The rows that have something to say, as Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text =
            "| figure | Kubernetes 1.36 | Cloudeck | ratio | bar | met |\n|---|---:|---:|---:|---:|---|\n"
                .to_owned();
        for figure in FIGURES {
            match self.found.get(figure.id) {
                None => {}
                Some(Found::Failure(reason)) => {
                    let _ = writeln!(
                        text,
                        "| {} | {} | not measured: {reason} | | {} | no |",
                        figure.title,
                        quantity(figure.kubernetes, figure.unit),
                        figure.bar()
                    );
                }
                Some(Found::Value { value, remark, peer }) => {
                    text.push_str(&figure.row(*value, remark, peer.unwrap_or(figure.kubernetes)));
                }
            }
        }
        text
    }
}

impl Figure {
    fn row(&self, value: f64, remark: &str, beside: f64) -> String {
        let (ratio, met) = match self.bar {
            AtMost(bar) => (beside / value.max(1e-3), value <= bar),
            Times(times) => (value / beside, value >= times * beside),
        };
        let remark = if remark.is_empty() {
            String::new()
        } else {
            format!(" ({remark})")
        };
        let digits = usize::from(ratio < 10.0);
        format!(
            "| {} | {} | {}{remark} | {ratio:.digits$}× | {} | {} |\n",
            self.title,
            quantity(self.kubernetes, self.unit),
            quantity(value, self.unit),
            self.bar(),
            if met { "yes" } else { "**no**" }
        )
    }

    fn bar(&self) -> String {
        let bar = match self.bar {
            AtMost(most) => quantity(most, self.unit),
            Times(times) => format!("{times:.0}×"),
        };
        match self.goal {
            "" => bar,
            goal => format!("{bar}, goal {goal}"),
        }
    }
}

/// A number as a reader wants it: three significant digits or all whole ones.
fn quantity(value: f64, unit: &str) -> String {
    let digits = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        thousands(&text)
    };
    match unit {
        "/s" => format!("{text}/s"),
        unit => format!("{text} {unit}"),
    }
}

fn thousands(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The value below which a share of the values lies. Sorts them.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_ratio_and_whether_the_bar_is_met() {
        let mut report = Report::default();
        report.set("create-1", 6050.0);
        report.set_with("pod-p50", 130.0, "40 pods".to_owned());
        report.fail(&["create-1", "get"], "no\nserver");
        let table = report.table();
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| pod create → Running seen by a watch, one at a time, p50 | 520 ms | 130 ms (40 pods) | 4.0× | 100 ms, goal 50 | **no** |",
                "| durable pod creates, 1 client | 605/s | 6,050/s | 10× | 5×, goal 10× | yes |",
                "| GET, 64 clients | 4,320/s | not measured: no server | | 5× | no |",
            ]
        );
    }

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        assert!((percentile(&mut [3.0, 1.0, 2.0], 0.5) - 2.0).abs() < 1e-9);
        assert!((percentile(&mut [3.0, 1.0, 2.0], 0.99) - 3.0).abs() < 1e-9);
    }
}
