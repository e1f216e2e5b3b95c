//! The text formats: Prometheus 0.0.4 and OpenMetrics 1.0.

use std::fmt::Write as _;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header prefers; the classic one where it does not say.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (Format::Text, 0.0);
        for media in accept.split(',') {
            let mut parts = media.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/openmetrics-text") => Format::OpenMetrics,
                Some("text/plain" | "text/*" | "*/*") => Format::Text,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A scrape that is being written. A family without series leaves no trace.
pub struct Exposition {
    format: Format,
    families: Vec<FamilyText>,
}

struct FamilyText {
    name: String,
    head: String,
    kind: Kind,
    /// One text per series; sorted at the end.
    series: Vec<String>,
}

const TOTAL: &str = "_total";

impl Exposition {
    pub fn new(format: Format) -> Self {
        Exposition { format, families: Vec::new() }
    }

    /// Begins a family; the samples that follow belong to it.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        // OpenMetrics names a counter without its suffix, and its sample with it.
        let named = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => name.strip_suffix(TOTAL).unwrap_or(name),
            _ => name,
        };
        let kind_text = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let head = format!("# HELP {named} {help}\n# TYPE {named} {kind_text}\n");
        self.families.push(FamilyText { name: named.to_owned(), head, kind, series: Vec::new() });
    }

    /// One sample of the current family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.put(labels, value, None);
    }

    /// One sample that was taken at a time: milliseconds since 1970.
    pub fn sample_at(&mut self, labels: &[(&str, &str)], value: f64, at_ms: i64) {
        self.put(labels, value, Some(at_ms));
    }

    fn put(&mut self, labels: &[(&str, &str)], value: f64, at_ms: Option<i64>) {
        let format = self.format;
        let Some(family) = self.families.last_mut() else { return };
        let suffix = if format == Format::OpenMetrics && family.kind == Kind::Counter { TOTAL } else { "" };
        let mut text = String::new();
        let mut value = number(value, format);
        if let Some(at_ms) = at_ms {
            // OpenMetrics counts seconds.
            let _ = match format {
                Format::Text => write!(value, " {at_ms}"),
                Format::OpenMetrics => {
                    write!(value, " {}.{:03}", at_ms.div_euclid(1000), at_ms.rem_euclid(1000))
                }
            };
        }
        line(&mut text, &family.name, suffix, labels, None, &value);
        family.series.push(text);
    }

    /// One histogram of the current family. `counts` has one more entry than `bounds`, and they are
    /// not cumulative.
    pub fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[f64], counts: &[u64], sum: f64) {
        let format = self.format;
        let Some(family) = self.families.last_mut() else { return };
        let (mut text, mut total) = (String::new(), 0);
        for (at, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(at).copied().unwrap_or(f64::INFINITY);
            let bound = number(bound, format);
            line(&mut text, &family.name, "_bucket", labels, Some(&bound), &total.to_string());
        }
        line(&mut text, &family.name, "_sum", labels, None, &number(sum, format));
        line(&mut text, &family.name, "_count", labels, None, &total.to_string());
        family.series.push(text);
    }

    /// The whole text: every family, sorted by name.
    pub fn finish(mut self) -> String {
        self.families.sort_by(|a, b| a.name.cmp(&b.name));
        let mut text = String::new();
        for mut family in self.families.into_iter().filter(|family| !family.series.is_empty()) {
            family.series.sort();
            text.push_str(&family.head);
            text.extend(family.series);
        }
        if self.format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

fn line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&str, &str)],
    bound: Option<&str>,
    value: &str,
) {
    text.push_str(name);
    text.push_str(suffix);
    let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
    let mut open = false;
    for (label, value) in all {
        text.push(if open { ',' } else { '{' });
        open = true;
        let _ = write!(text, "{label}=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    if open {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

/// A number as Prometheus' own libraries write it: the shortest form that reads back, with an
/// exponent from a million on. OpenMetrics wants a point where there is neither.
fn number(value: f64, format: Format) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mut text = if value == 0.0 || (-4..6).contains(&exponent) {
        format!("{value}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
    };
    if format == Format::OpenMetrics && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}
