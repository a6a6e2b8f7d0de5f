//! The table that is printed.

use std::fmt;
use std::time::Duration;

/// Rows as they come.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 5]>,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

impl Table {
    /// Adds a row: what Kubernetes did, what we did, in which unit, and the bar.
    pub(crate) fn add(
        &mut self,
        what: &str,
        kubernetes: f64,
        ours: f64,
        unit: &str,
        better: Better,
        bar: &str,
    ) {
        let ratio = match better {
            Better::Less => kubernetes / ours,
            Better::More => ours / kubernetes,
        };
        let cells = [
            what.to_owned(),
            number(kubernetes, unit),
            number(ours, unit),
            format!("{ratio:.1} ×"),
            bar.to_owned(),
        ];
        eprintln!("{}", cells.join("; "));
        self.rows.push(cells);
    }

    /// Adds a row without a figure of Kubernetes.
    pub(crate) fn add_alone(&mut self, what: &str, beside: &str, ours: &str, bar: &str) {
        let cells = [what, beside, ours, "", bar].map(str::to_owned);
        eprintln!("{}", cells.join("; "));
        self.rows.push(cells);
    }
}

fn number(value: f64, unit: &str) -> String {
    if value.abs() < 10.0 {
        format!("{value:.2} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value below which `share` of all lie.
pub(crate) fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or_default()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| figure | Kubernetes 1.36 | Cloudeck | ratio | bar |\n|---|---|---|---|---|"
        )?;
        self.rows
            .iter()
            .try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_the_ratio_in_favour_of_the_better() {
        let mut table = Table::default();
        table.add("start", 3400.0, 340.0, "ms", Better::Less, "1 s");
        table.add("creates", 605.0, 6050.0, "per s", Better::More, "× 5");
        let text = table.to_string();
        assert!(
            text.contains("| start | 3400 ms | 340 ms | 10.0 × | 1 s |"),
            "{text}"
        );
        assert!(
            text.contains("| creates | 605 per s | 6050 per s | 10.0 × | × 5 |"),
            "{text}"
        );
    }

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        let mut times: Vec<_> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&mut times, 0.5), Duration::from_millis(51));
        assert_eq!(quantile(&mut times, 0.99), Duration::from_millis(100));
    }
}
