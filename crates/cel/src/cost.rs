//! What an expression costs at least and at most, before it is run: upstream's model, since the
//! limits of custom resource definitions are measured by it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Expr, Fold, Id, Kind, Literal, UNUSED};
use crate::checker::{Checked, Environment, declared_at};
use crate::types::Type;

mod call;

/// A range of costs, or of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub min: u64,
    pub max: u64,
}

/// A size of which nothing is known.
pub const UNKNOWN: Estimate = Estimate { min: 0, max: u64::MAX };

impl Estimate {
    pub const fn fixed(value: u64) -> Self {
        Estimate { min: value, max: value }
    }

    pub fn plus(self, other: Estimate) -> Self {
        Estimate { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub fn times(self, other: Estimate) -> Self {
        Estimate { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// Scaled by a factor, rounded up.
    pub fn by(self, factor: f64) -> Self {
        // A float beyond the range of u64 saturates in the cast.
        let scale = |value: u64| (value as f64 * factor).ceil() as u64;
        Estimate { min: scale(self.min), max: scale(self.max) }
    }

    pub fn union(self, other: Estimate) -> Self {
        Estimate { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// Estimates a checked expression.
pub fn estimate(checked: &Checked, environment: &Environment) -> Estimate {
    let mut coster = Coster {
        checked,
        environment,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    coster.cost(&checked.expr)
}

/// The sizes of the keys and values of a list or map.
#[derive(Clone, Copy, Debug)]
struct EntrySize {
    list: bool,
    key: Estimate,
    value: Estimate,
}

/// From a variable down to a value; absent when it has no such way.
type Path = Vec<Arc<str>>;

struct Local {
    name: Arc<str>,
    path: Path,
    size: Option<Estimate>,
    entry: Option<EntrySize>,
}

struct Coster<'a> {
    checked: &'a Checked,
    environment: &'a Environment,
    paths: HashMap<Id, Path>,
    sizes: HashMap<Id, Estimate>,
    entries: HashMap<Id, EntrySize>,
    locals: Vec<Local>,
}

impl Coster<'_> {
    fn cost(&mut self, expr: &Expr) -> Estimate {
        match &expr.kind {
            Kind::Literal(_) => Estimate::fixed(0),
            Kind::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(expr.id, path);
                Estimate::fixed(1)
            }
            Kind::Select { operand, field, test } => {
                let mut sum = self.cost(operand);
                if *test {
                    return sum;
                }
                if matches!(self.ty(operand), Type::Map(..) | Type::Object(_) | Type::Dyn) {
                    sum = sum.plus(Estimate::fixed(1));
                }
                self.extend(expr, operand, field.clone());
                sum
            }
            Kind::Call { .. } => self.call(expr),
            Kind::List(elements) => {
                let mut sum = Estimate::fixed(10);
                let mut of: Option<Estimate> = None;
                for element in elements {
                    sum = sum.plus(self.cost(&element.value));
                    let size = self.size_or_unknown(&element.value);
                    of = Some(of.map_or(size, |of| of.union(size)));
                }
                let value = of.unwrap_or(Estimate::fixed(0));
                self.entries.insert(expr.id, EntrySize { list: true, key: Estimate::fixed(1), value });
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Estimate::fixed(30);
                let mut sizes: Option<(Estimate, Estimate)> = None;
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    let (key, value) = (self.size_or_unknown(&entry.key), self.size_or_unknown(&entry.value));
                    sizes = Some(sizes.map_or((key, value), |(k, v)| (k.union(key), v.union(value))));
                }
                let (key, value) = sizes.unwrap_or((Estimate::fixed(0), Estimate::fixed(0)));
                self.entries.insert(expr.id, EntrySize { list: false, key, value });
                sum
            }
            Kind::Struct { fields, .. } => {
                fields.iter().fold(Estimate::fixed(40), |sum, field| sum.plus(self.cost(&field.value)))
            }
            Kind::Fold(fold) if fold.variable.as_ref() == UNUSED => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn bind(&mut self, expr: &Expr, fold: &Fold) -> Estimate {
        // The empty list that a bound name ranges over costs as any list.
        let mut sum = Estimate::fixed(10).plus(self.cost(&fold.init));
        self.push_local(&fold.accumulator, &fold.init);
        sum = sum.plus(self.cost(&fold.result));
        let (size, entry) = (self.size(&fold.result), self.entry(&fold.result));
        self.locals.pop();
        self.keep(expr, size, entry);
        sum
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> Estimate {
        let mut sum = self.cost(&fold.range);
        sum = sum.plus(self.cost(&fold.init));
        self.push_local(&fold.accumulator, &fold.init);
        let outer = self.locals.len();
        let entry = self.entry(&fold.range);
        let list = entry.map_or(matches!(self.ty(&fold.range), Type::List(_)), |entry| entry.list);
        let path = self.path(&fold.range);
        let below = |step: &str| -> Path {
            let mut path = path.clone();
            path.push(step.into());
            path
        };
        let (keys, values) = if list { ("@indices", "@items") } else { ("@keys", "@values") };
        let (key, value) = (entry.map(|entry| entry.key), entry.map(|entry| entry.value));
        let mut push = |name: &Arc<str>, path: Path, size: Option<Estimate>| {
            self.locals.push(Local { name: name.clone(), path, size, entry: None });
        };
        match &fold.second {
            Some(second) => {
                push(&fold.variable, below(keys), key);
                push(second, below(values), value);
            }
            None if list => push(&fold.variable, below(values), value),
            None => push(&fold.variable, below(keys), key),
        }
        let each = self.cost(&fold.condition).plus(self.cost(&fold.step));
        self.locals.truncate(outer);
        sum = sum.plus(self.cost(&fold.result));
        let count = self.size_or_unknown(&fold.range);
        sum = sum.plus(count.times(each));
        match fold.init.kind {
            Kind::List(_) | Kind::Map(_) => {
                let entry = self.entry(&fold.step);
                self.locals.pop();
                self.keep(expr, Some(count), entry);
            }
            _ => {
                let size = self.size(&fold.init);
                self.locals.pop();
                self.keep(expr, size, None);
            }
        }
        sum
    }

    fn push_local(&mut self, name: &Arc<str>, value: &Expr) {
        let local = Local {
            name: name.clone(),
            path: self.path(value),
            size: self.size(value),
            entry: self.entry(value),
        };
        self.locals.push(local);
    }

    fn keep(&mut self, expr: &Expr, size: Option<Estimate>, entry: Option<EntrySize>) {
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        if let Some(entry) = entry {
            self.entries.insert(expr.id, entry);
        }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| local.name.as_ref() == name)
    }

    fn ty(&self, expr: &Expr) -> &Type {
        self.checked.type_of(expr.id)
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn extend(&mut self, expr: &Expr, below: &Expr, step: Arc<str>) {
        let mut path = self.path(below);
        path.push(step);
        self.paths.insert(expr.id, path);
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Estimate {
        self.size(expr).unwrap_or(UNKNOWN)
    }

    fn size(&mut self, expr: &Expr) -> Option<Estimate> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        let literal = match &expr.kind {
            Kind::Literal(Literal::String(text)) => Some(text.chars().count()),
            Kind::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Kind::Literal(_) => Some(1),
            Kind::List(elements) => Some(elements.len()),
            Kind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(size) = literal {
            return Some(Estimate::fixed(size as u64));
        }
        if let Some(size) = self.declared(&self.path(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if is_scalar(self.ty(expr)) {
            return Some(Estimate::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn entry(&self, expr: &Expr) -> Option<EntrySize> {
        self.entries.get(&expr.id).copied().or_else(|| match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entry),
            _ => None,
        })
    }

    /// The size that the environment declares for a path.
    fn declared(&self, path: &[Arc<str>]) -> Option<Estimate> {
        let (variable, rest) = path.split_first()?;
        let root = self.environment.variables.get(variable.as_ref())?;
        if root.ty == Type::Dyn {
            return None;
        }
        if rest.last().is_some_and(|step| step.as_ref() == "@keys") {
            return Some(Estimate { min: 0, max: crate::schema::MAX_REQUEST - 2 });
        }
        let decl = declared_at(root, rest)?;
        match decl.max_elements {
            u64::MAX => None,
            max => Some(Estimate { min: 0, max }),
        }
    }
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Optional(of) => is_scalar(of),
        _ => false,
    }
}
