//! Prometheus' text format, version 0.0.4.

use std::fmt::Write;

use crate::registry::{AnyFamily, Registry};

impl Registry {
    /// All metrics as text, sorted by name and label values.
    pub fn render(&self) -> String {
        let mut page = Page(String::new());
        for (name, family) in self.snapshot() {
            match family {
                AnyFamily::Counter(family) => {
                    page.header(name, family.help(), "counter");
                    for (values, series) in family.series() {
                        page.line(name, family.labels(), &values, None, series.value());
                    }
                }
                AnyFamily::Gauge(family) => {
                    page.header(name, family.help(), "gauge");
                    for (values, series) in family.series() {
                        page.line(name, family.labels(), &values, None, series.value());
                    }
                }
                AnyFamily::Histogram(family) => {
                    page.header(name, family.help(), "histogram");
                    for (values, series) in family.series() {
                        page.histogram(name, family.labels(), &values, &series.read());
                    }
                }
            }
        }
        page.0
    }
}

struct Page(String);

impl Page {
    fn header(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[&str],
        values: &[String],
        (buckets, count, sum): &(Vec<(f64, u64)>, u64, f64),
    ) {
        let bucket = format!("{name}_bucket");
        for (bound, below) in buckets {
            self.line(&bucket, labels, values, Some(&bound.to_string()), below);
        }
        self.line(&bucket, labels, values, Some("+Inf"), count);
        self.line(&format!("{name}_sum"), labels, values, None, sum);
        self.line(&format!("{name}_count"), labels, values, None, count);
    }

    fn line(
        &mut self,
        name: &str,
        labels: &[&str],
        values: &[String],
        bound: Option<&str>,
        value: impl std::fmt::Display,
    ) {
        self.0.push_str(name);
        let values = values.iter().map(String::as_str);
        let pairs = labels
            .iter()
            .copied()
            .zip(values)
            .chain(bound.map(|bound| ("le", bound)));
        let mut opened = false;
        for (label, value) in pairs {
            self.0.push(if opened { ',' } else { '{' });
            opened = true;
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            self.write(format_args!("{label}=\"{value}\""));
        }
        if opened {
            self.0.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_empty_registry_renders_nothing() {
        assert_eq!(Registry::new().render(), "");
    }

    #[test]
    fn metrics_render_in_the_text_format() {
        let registry = Registry::new();
        let requests = registry.counter("requests_total", "Requests served.", &["verb", "path"]);
        requests.with(&["get", "/a\"b\\c\nd"]).inc();
        registry
            .counter("requests_total", "Requests served.", &["verb", "path"])
            .with(&["delete", ""])
            .add(3);
        registry.gauge("open", "Open\nthings.", &[]).with(&[]).add(-2);
        let seconds = registry.histogram("wait_seconds", "Time waited.", &["queue"], &[0.1, 1.0]);
        let waits = seconds.with(&["q"]);
        for milliseconds in [100, 125, 5_000] {
            waits.observe_duration(Duration::from_millis(milliseconds));
        }
        let expected = "\
# HELP open Open\\nthings.
# TYPE open gauge
open -2
# HELP requests_total Requests served.
# TYPE requests_total counter
requests_total{verb=\"delete\",path=\"\"} 3
requests_total{verb=\"get\",path=\"/a\\\"b\\\\c\\nd\"} 1
# HELP wait_seconds Time waited.
# TYPE wait_seconds histogram
wait_seconds_bucket{queue=\"q\",le=\"0.1\"} 1
wait_seconds_bucket{queue=\"q\",le=\"1\"} 2
wait_seconds_bucket{queue=\"q\",le=\"+Inf\"} 3
wait_seconds_sum{queue=\"q\"} 5.225
wait_seconds_count{queue=\"q\"} 3
";
        assert_eq!(registry.render(), expected);
    }

    #[test]
    #[should_panic(expected = "metric open is not a counter")]
    fn a_name_has_one_type() {
        let registry = Registry::new();
        registry.gauge("open", "Open things.", &[]);
        registry.counter("open", "Open things.", &[]);
    }
}
