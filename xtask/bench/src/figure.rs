//! Figures, their table, and their file.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Lower,
    Higher,
}

impl Better {
    fn name(self) -> &'static str {
        match self {
            Better::Lower => "lower",
            Better::Higher => "higher",
        }
    }
}

/// One measured value.
#[derive(Clone, Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    better: Better,
    /// In `unit`.
    target: Option<f64>,
    /// Another program's name and its value, in `unit`.
    peer: Option<(&'static str, f64)>,
}

impl Figure {
    pub fn lower(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { name: name.into(), value, unit, better: Better::Lower, target: None, peer: None }
    }

    pub fn higher(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { better: Better::Higher, ..Figure::lower(name, value, unit) }
    }

    pub fn target(mut self, target: f64) -> Figure {
        self.target = Some(target);
        self
    }

    /// Stands beside a peer of the same run, whose value is no target.
    pub fn beside(mut self, peer: &'static str, value: Option<f64>) -> Figure {
        self.peer = value.map(|value| (peer, value));
        self
    }

    /// Compares with a peer of the same run, whose value times `share` is the target.
    pub fn against(self, peer: &'static str, value: Option<f64>, share: f64) -> Figure {
        let target = value.map(|value| value * share);
        Figure { target, ..self.beside(peer, value) }
    }

    fn met(&self) -> Option<bool> {
        let target = self.target?;
        Some(match self.better {
            Better::Lower => self.value <= target,
            Better::Higher => self.value >= target,
        })
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.map(|(_, value)| self.value / value)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "better": self.better.name(),
            "target": self.target.map(rounded),
            "met": self.met(),
            "peer": self.peer.map(|(name, _)| name),
            "peer_value": self.peer.map(|(_, value)| rounded(value)),
            "ratio": self.ratio().map(rounded),
        })
    }

    fn row(&self) -> [String; 6] {
        let met = match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let optional = |value: Option<f64>| value.map(shown).unwrap_or_default();
        [
            self.name.clone(),
            format!("{} {}", shown(self.value), self.unit),
            optional(self.target),
            met.to_owned(),
            self.peer.map(|(name, value)| format!("{name} {}", shown(value))).unwrap_or_default(),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        ]
    }
}

/// Four significant digits: more is noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

fn shown(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

pub fn print(figures: &[Figure]) {
    let head = ["figure", "value", "target", "", "peer", "ratio"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(figures.iter().map(Figure::row)).collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    println!();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

pub fn write(figures: &[Figure], path: &Path) -> Result<()> {
    std::fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
    let list: Vec<Value> = figures.iter().map(Figure::json).collect();
    let text = serde_json::to_string_pretty(&list)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The value below which `share` of the samples lie; 0.5 is the median.
pub fn quantile(samples: &[f64], share: f64) -> Result<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1).context("nothing was measured")?;
    Ok(sorted[(last as f64 * share).round() as usize])
}

pub fn median(samples: &[f64]) -> Result<f64> {
    quantile(samples, 0.5)
}
