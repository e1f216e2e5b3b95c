//! Everything that is wrong with a configuration, by field.

use std::fmt;

/// One field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub field: String,
    pub why: String,
}

/// Everything that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    found: Vec<Fault>,
    prefix: String,
}

impl Faults {
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn add(&mut self, field: &str, why: impl Into<String>) {
        self.found.push(Fault { field: format!("{}{field}", self.prefix), why: why.into() });
    }

    /// Adds what is found below a field.
    pub fn at(&mut self, field: String, check: impl FnOnce(&mut Faults)) {
        let outer = std::mem::take(&mut self.prefix);
        self.prefix = format!("{outer}{field}.");
        check(self);
        self.prefix = outer;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Fault { field, why }) in self.found.iter().enumerate() {
            write!(f, "{}{field}: {why}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
