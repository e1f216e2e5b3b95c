//! Which build this is, and which of Kubernetes' features are on.

use sampan_base::metrics::{Exposition, Kind};

use crate::documents;

/// What upstream calls feature gates, their stage in 1.35, and whether they work here.
const FEATURES: &[(&str, &str, bool)] = &[
    ("APIResponseCompression", "BETA", true),
    ("APIServerIdentity", "BETA", false),
    ("APIServerTracing", "", false),
    ("AggregatedDiscoveryRemoveBetaType", "DEPRECATED", false),
    ("ComponentFlagz", "ALPHA", false),
    ("ComponentSLIs", "", true),
    ("ComponentStatusz", "ALPHA", false),
    ("OpenAPIEnums", "", true),
    ("WatchList", "BETA", true),
];

pub fn collect(out: &mut Exposition) {
    let version = documents::version_info();
    out.family("kubernetes_build_info", "[ALPHA] Always 1; the labels say which build this is.", Kind::Gauge);
    let names = [
        ("build_date", "buildDate"),
        ("compiler", "compiler"),
        ("git_commit", "gitCommit"),
        ("git_tree_state", "gitTreeState"),
        ("git_version", "gitVersion"),
        ("go_version", "goVersion"),
        ("major", "major"),
        ("minor", "minor"),
        ("platform", "platform"),
    ];
    let labels = names.map(|(label, field)| (label, version[field].as_str().unwrap_or_default()));
    out.sample(&labels, 1.0);
    out.family("kubernetes_feature_enabled", "[BETA] Whether a feature is on.", Kind::Gauge);
    for (name, stage, enabled) in FEATURES {
        out.sample(&[("name", name), ("stage", stage)], f64::from(u8::from(*enabled)));
    }
}
