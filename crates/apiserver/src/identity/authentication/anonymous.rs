//! Which requests need no credentials.

/// What may be asked by `system:anonymous`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    Off,
    /// Everything; the roles decide.
    Everywhere,
    /// These paths alone.
    Paths(Vec<String>),
}

impl Default for Anonymous {
    /// Health, which load balancers and probes ask for before there are any credentials.
    fn default() -> Self {
        Anonymous::Paths(["/healthz", "/livez", "/readyz"].map(str::to_owned).to_vec())
    }
}

impl Anonymous {
    pub fn allows(&self, path: &str) -> bool {
        match self {
            Anonymous::Off => false,
            Anonymous::Everywhere => true,
            Anonymous::Paths(paths) => paths.iter().any(|allowed| allowed == path),
        }
    }
}
