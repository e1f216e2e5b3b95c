//! The `Accept` header, read as upstream reads it.

/// The most clauses of one header that are looked at.
const MAX_CLAUSES: usize = 64;

/// One media range with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    weight: f64,
    parameters: Vec<(&'a str, &'a str)>,
}

/// The clauses, best first.
pub fn parse(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = header.split(',').take(MAX_CLAUSES).filter_map(clause).collect();
    // Stable: of equals the first one written is the first one tried.
    clauses.sort_by(|a, b| {
        let wild = |clause: &Clause<'_>| (clause.kind == "*", clause.subtype == "*");
        b.weight.total_cmp(&a.weight).then(wild(a).cmp(&wild(b)))
    });
    clauses
}

fn clause(text: &str) -> Option<Clause<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let (kind, subtype) = match parts.next()?.split_once('/') {
        Some((kind, subtype)) => (kind.trim(), subtype.trim()),
        None if text.trim().starts_with('*') => ("*", "*"),
        None => return None,
    };
    let mut clause = Clause { kind, subtype, weight: 1.0, parameters: Vec::new() };
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        match (name.trim(), value.trim()) {
            ("q", weight) => {
                clause.weight = weight.parse().ok().filter(|w: &f64| w.is_finite()).unwrap_or(1.0)
            }
            parameter => clause.parameters.push(parameter),
        }
    }
    Some(clause)
}

impl Clause<'_> {
    pub fn allows(&self, media_type: &str) -> bool {
        let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, ""));
        match (self.kind, self.subtype) {
            ("*", "*") => true,
            (own, "*") => own == kind,
            (own, own_subtype) => own == kind && own_subtype == subtype,
        }
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Kind, group and version of `as`, `g` and `v`, where any of them is there.
    pub fn asked_shape(&self) -> Option<(&str, &str, &str)> {
        let asked = [self.parameter("as"), self.parameter("g"), self.parameter("v")];
        asked.iter().any(Option::is_some).then(|| {
            let [kind, group, version] = asked.map(Option::unwrap_or_default);
            (kind, group, version)
        })
    }

    pub fn stream(&self) -> Option<&str> {
        self.parameter("stream").filter(|stream| !stream.is_empty())
    }

    pub fn pretty(&self) -> bool {
        self.parameter("pretty") == Some("1")
    }
}
