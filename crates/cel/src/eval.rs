//! Evaluation, within a budget.
//!
//! Every step is charged as upstream charges it. Besides, what is copied is counted, since some
//! operations are cheap by upstream's measure only because its lists share their parts. Recursion is
//! bounded by the depth of the expression.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Expr, Fold, Kind, Literal, UNUSED};
use crate::program::Program;
use crate::value::{Key, List, Map, Text, Value};

mod charge;

pub use charge::Class;

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    #[error("no such overload")]
    NoSuchOverload,
    #[error("no such key: {0}")]
    NoSuchKey(String),
    #[error("no such field '{0}'")]
    NoSuchField(String),
    #[error("no such attribute(s): {0}")]
    NoSuchAttribute(String),
    #[error("index out of bounds: {0}")]
    OutOfBounds(i64),
    #[error("integer overflow")]
    Overflow,
    #[error("unsigned integer overflow")]
    UnsignedOverflow,
    #[error("division by zero")]
    DivisionByZero,
    #[error("modulus by zero")]
    ModulusByZero,
    #[error("timestamp overflow")]
    TimestampOverflow,
    #[error("duration overflow")]
    DurationOverflow,
    #[error("type conversion error from '{from}' to '{to}'")]
    Conversion { from: String, to: &'static str },
    /// What a library function says about its arguments.
    #[error("{0}")]
    Argument(String),
    #[error("optional.none() dereference")]
    NoValue,
    #[error("insert failed: key {0} already exists")]
    DuplicateKey(String),
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
}

pub type Outcome<'a> = Result<Value<'a>, EvalError>;

/// Most bytes and elements that one evaluation may copy.
const MAX_WORK: u64 = 64 << 20;

/// What an evaluation may still spend.
#[derive(Clone, Debug)]
pub struct Budget {
    spent: u64,
    limit: u64,
    work: u64,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Budget { spent: 0, limit, work: 0 }
    }

    pub fn spent(&self) -> u64 {
        self.spent
    }

    pub fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    /// Counts elements or bytes that are copied.
    pub fn work(&mut self, amount: usize) -> Result<(), EvalError> {
        self.work = self.work.saturating_add(amount as u64);
        if self.work > MAX_WORK { Err(EvalError::CostExceeded) } else { Ok(()) }
    }
}

/// A named expression that others refer to as `variables.name`.
#[derive(Clone, Debug)]
pub struct Composed {
    pub name: String,
    pub program: Program,
}

/// Evaluates expressions over one set of variables.
pub struct Evaluator<'a> {
    roots: Vec<(&'a str, Value<'a>)>,
    composed: &'a [Composed],
    results: Vec<Option<Outcome<'a>>>,
    locals: Vec<(&'a str, Value<'a>)>,
    budget: Budget,
}

impl<'a> Evaluator<'a> {
    pub fn new(roots: Vec<(&'a str, Value<'a>)>) -> Self {
        Evaluator { roots, composed: &[], results: Vec::new(), locals: Vec::new(), budget: Budget::new(0) }
    }

    /// Adds the variables of a policy, each evaluated at most once.
    pub fn composed(mut self, composed: &'a [Composed]) -> Self {
        self.composed = composed;
        self.results = vec![None; composed.len()];
        self.roots.push(("variables", Value::Map(Map::Variables)));
        self
    }

    /// Evaluates, and answers what it cost.
    pub fn run(&mut self, program: &'a Program, limit: u64) -> (Outcome<'a>, u64) {
        self.budget = Budget::new(limit);
        self.locals.clear();
        let outcome = self.eval(program, program.expr());
        (outcome, self.budget.spent())
    }

    fn eval(&mut self, program: &'a Program, expr: &'a Expr) -> Outcome<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(constant(literal)),
            Kind::Ident(name) => self.ident(name),
            Kind::Select { operand, field, test } => self.select(program, operand, field, *test),
            Kind::Call { function, target, args } => match function.as_ref() {
                "_&&_" => self.logical(program, args, false),
                "_||_" => self.logical(program, args, true),
                "_?_:_" => self.conditional(program, args),
                "or" | "orValue" if target.is_some() => self.optional_or(program, expr),
                _ => self.call(program, expr),
            },
            Kind::List(_) => self.list(program, expr),
            Kind::Map(_) => self.map(program, expr),
            Kind::Struct { .. } => self.structure(program, expr),
            Kind::Fold(fold) => self.fold(program, fold),
        }
    }

    fn ident(&mut self, name: &'a str) -> Outcome<'a> {
        self.budget.charge(1)?;
        if let Some((_, value)) = self.locals.iter().rev().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        if let Some((_, value)) = self.roots.iter().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        match crate::checker::named_type(name) {
            Some(ty) => Ok(Value::Type(ty)),
            None => Err(EvalError::NoSuchAttribute(name.to_owned())),
        }
    }

    fn select(&mut self, program: &'a Program, operand: &'a Expr, field: &'a str, test: bool) -> Outcome<'a> {
        let on = self.eval(program, operand)?;
        if test {
            return Ok(Value::Bool(self.has(&on, field)?));
        }
        self.budget.charge(1)?;
        self.field(on, field)
    }

    fn has(&mut self, on: &Value<'a>, field: &str) -> Result<bool, EvalError> {
        match on {
            Value::Map(Map::Variables) => Ok(self.composed.iter().any(|one| one.name == field)),
            Value::Map(map) => Ok(map.get_str(field).is_some()),
            Value::Optional(None) => Ok(false),
            Value::Optional(Some(inner)) => self.has(inner, field),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn field(&mut self, on: Value<'a>, field: &'a str) -> Outcome<'a> {
        match on {
            Value::Map(Map::Variables) => self.variable(field),
            Value::Map(map) => map.get_str(field).ok_or_else(|| EvalError::NoSuchKey(field.to_owned())),
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => self.optional_field(inner.as_ref().clone(), field),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn optional_field(&mut self, on: Value<'a>, field: &'a str) -> Outcome<'a> {
        if !self.has(&on, field)? {
            return Ok(Value::Optional(None));
        }
        let value = self.field(on, field)?;
        Ok(match value {
            Value::Optional(_) => value,
            value => Value::Optional(Some(Arc::new(value))),
        })
    }

    /// A variable of the policy, evaluated when it is first asked for.
    fn variable(&mut self, name: &str) -> Outcome<'a> {
        let at = self
            .composed
            .iter()
            .position(|one| one.name == name)
            .ok_or_else(|| EvalError::NoSuchKey(name.to_owned()))?;
        if let Some(known) = &self.results[at] {
            return known.clone();
        }
        // Variables refer only to earlier ones, so this ends.
        let composed: &'a [Composed] = self.composed;
        let program = &composed[at].program;
        let locals = std::mem::take(&mut self.locals);
        let outcome = self.eval(program, program.expr());
        self.locals = locals;
        self.results[at] = Some(outcome.clone());
        outcome
    }

    /// `&&` and `||`: an operand that decides wins over one that fails.
    fn logical(&mut self, program: &'a Program, operands: &'a [Expr], decides: bool) -> Outcome<'a> {
        let mut failed = None;
        for operand in operands {
            match self.eval(program, operand) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(EvalError::NoSuchOverload)),
                Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn conditional(&mut self, program: &'a Program, args: &'a [Expr]) -> Outcome<'a> {
        match self.eval(program, &args[0])? {
            Value::Bool(true) => self.eval(program, &args[1]),
            Value::Bool(false) => self.eval(program, &args[2]),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    /// `or` and `orValue` look at their argument only when there is no value.
    fn optional_or(&mut self, program: &'a Program, expr: &'a Expr) -> Outcome<'a> {
        let Kind::Call { function, target: Some(target), args } = &expr.kind else {
            return Err(EvalError::NoSuchOverload);
        };
        let target = self.eval(program, target)?;
        self.budget.charge(1)?;
        match target {
            Value::Optional(Some(inner)) if function.as_ref() == "orValue" => Ok(inner.as_ref().clone()),
            Value::Optional(Some(inner)) => Ok(Value::Optional(Some(inner))),
            Value::Optional(None) => self.eval(program, &args[0]),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn call(&mut self, program: &'a Program, expr: &'a Expr) -> Outcome<'a> {
        let Kind::Call { function, target, args } = &expr.kind else {
            return Err(EvalError::NoSuchOverload);
        };
        let mut values = Vec::with_capacity(args.len() + 1);
        if let Some(target) = target {
            values.push(self.eval(program, target)?);
        }
        for arg in args {
            match self.eval(program, arg) {
                Ok(value) => values.push(value),
                // A fold goes on over an error, which may yet be overruled.
                Err(error) if function.as_ref() == "@not_strictly_false" => {
                    self.budget.charge(1)?;
                    return if error == EvalError::CostExceeded { Err(error) } else { Ok(Value::Bool(true)) };
                }
                Err(error) => return Err(error),
            }
        }
        let Some((native, class)) = program.native(expr.id) else { return Err(EvalError::NoSuchOverload) };
        if function.as_ref() == "_?._" {
            self.budget.charge(1)?;
            let Kind::Literal(Literal::String(field)) = &args[1].kind else {
                return Err(EvalError::NoSuchOverload);
            };
            let on = match values.swap_remove(0) {
                Value::Optional(None) => return Ok(Value::Optional(None)),
                Value::Optional(Some(inner)) => inner.as_ref().clone(),
                other => other,
            };
            return self.optional_field(on, field);
        }
        charge::before(&mut self.budget, class, &values)?;
        let outcome = match program.regex(expr.id) {
            Some(regex) => crate::library::regex::with(regex, function, &mut self.budget, &values),
            None => native(&mut self.budget, &values),
        }?;
        charge::after(&mut self.budget, class, &outcome)?;
        Ok(outcome)
    }

    fn list(&mut self, program: &'a Program, expr: &'a Expr) -> Outcome<'a> {
        let Kind::List(elements) = &expr.kind else { return Err(EvalError::NoSuchOverload) };
        let mut items = Vec::with_capacity(elements.len());
        for element in elements {
            let value = self.eval(program, &element.value)?;
            if !element.optional {
                items.push(value);
                continue;
            }
            match value {
                Value::Optional(inner) => items.extend(inner.map(|inner| inner.as_ref().clone())),
                _ => return Err(EvalError::NoSuchOverload),
            }
        }
        self.budget.charge(10)?;
        self.budget.work(items.len() * 16)?;
        Value::list(items).ok_or(EvalError::CostExceeded)
    }

    fn map(&mut self, program: &'a Program, expr: &'a Expr) -> Outcome<'a> {
        let Kind::Map(entries) = &expr.kind else { return Err(EvalError::NoSuchOverload) };
        let mut out = BTreeMap::new();
        for entry in entries {
            let key = self.eval(program, &entry.key)?;
            let key = Key::of(&key).ok_or_else(|| EvalError::Argument("unsupported key type".into()))?;
            let value = self.eval(program, &entry.value)?;
            let value = match (entry.optional, value) {
                (false, value) => value,
                (true, Value::Optional(Some(inner))) => inner.as_ref().clone(),
                (true, Value::Optional(None)) => continue,
                (true, _) => return Err(EvalError::NoSuchOverload),
            };
            if out.insert(key.clone(), value).is_some() {
                return Err(EvalError::Argument(format!("Failed with repeated key: {key}")));
            }
        }
        self.budget.charge(30)?;
        self.budget.work(out.len() * 64)?;
        Value::map(None, out).ok_or(EvalError::CostExceeded)
    }

    fn structure(&mut self, program: &'a Program, expr: &'a Expr) -> Outcome<'a> {
        let Kind::Struct { name, fields } = &expr.kind else { return Err(EvalError::NoSuchOverload) };
        let mut out = BTreeMap::new();
        for field in fields {
            let value = self.eval(program, &field.value)?;
            let value = match (field.optional, value) {
                (false, value) => value,
                (true, Value::Optional(Some(inner))) => inner.as_ref().clone(),
                (true, Value::Optional(None)) => continue,
                (true, _) => return Err(EvalError::NoSuchOverload),
            };
            out.insert(Key::String(field.name.clone()), value);
        }
        self.budget.charge(40)?;
        self.budget.work(out.len() * 64)?;
        Value::map(Some(name.clone()), out).ok_or(EvalError::CostExceeded)
    }

    fn fold(&mut self, program: &'a Program, fold: &'a Fold) -> Outcome<'a> {
        let range = self.eval(program, &fold.range)?;
        let accumulator: &'a str = &fold.accumulator;
        let mut so_far = self.eval(program, &fold.init);
        let depth = self.locals.len();
        if fold.variable.as_ref() == UNUSED {
            self.locals.push((accumulator, so_far?));
            let result = self.eval(program, &fold.result);
            self.locals.truncate(depth);
            return result;
        }
        let items: Items<'a> = match range {
            Value::List(list) => Items::List(list),
            Value::Map(map) => Items::Map(map.keys(), map),
            _ => return Err(EvalError::NoSuchOverload),
        };
        for at in 0..items.len() {
            // An accumulator that failed is an error wherever it is looked at.
            if !self.goes_on(program, fold, &so_far)? {
                break;
            }
            let Some((first, second)) = items.get(at, fold.second.is_some()) else { break };
            let first_name: &'a str = &fold.variable;
            self.locals.push((first_name, first));
            if let Some(name) = &fold.second {
                self.locals.push((name, second));
            }
            so_far = self.step(program, fold, &fold.step, so_far);
            self.locals.truncate(depth);
            if matches!(so_far, Err(EvalError::CostExceeded)) {
                return so_far;
            }
        }
        self.locals.push((accumulator, so_far?));
        let result = self.eval(program, &fold.result);
        self.locals.truncate(depth);
        result
    }

    fn goes_on(
        &mut self,
        program: &'a Program,
        fold: &'a Fold,
        so_far: &Outcome<'a>,
    ) -> Result<bool, EvalError> {
        if let Kind::Literal(Literal::Bool(true)) = fold.condition.kind {
            return Ok(so_far.is_ok());
        }
        let value = match so_far {
            Ok(value) => value.clone(),
            // Only quantifiers have a condition, and they go on over errors.
            Err(_) => {
                self.budget.charge(2)?;
                return Ok(true);
            }
        };
        let depth = self.locals.len();
        self.locals.push((&fold.accumulator, value));
        let goes_on = self.eval(program, &fold.condition);
        self.locals.truncate(depth);
        Ok(matches!(goes_on?, Value::Bool(true)))
    }

    /// One step of a fold. Appending to the accumulator happens in place.
    fn step(
        &mut self,
        program: &'a Program,
        fold: &'a Fold,
        step: &'a Expr,
        so_far: Outcome<'a>,
    ) -> Outcome<'a> {
        let Kind::Call { function, args, .. } = &step.kind else { return Err(EvalError::NoSuchOverload) };
        let is_accumulator =
            |expr: &Expr| matches!(&expr.kind, Kind::Ident(name) if *name == fold.accumulator);
        match (function.as_ref(), args.as_slice()) {
            ("_?_:_", [test, then, otherwise]) if is_accumulator(otherwise) => {
                match self.eval(program, test)? {
                    Value::Bool(true) => self.step(program, fold, then, so_far),
                    Value::Bool(false) => {
                        self.budget.charge(1)?;
                        so_far
                    }
                    _ => Err(EvalError::NoSuchOverload),
                }
            }
            ("_+_", [left, Expr { kind: Kind::List(elements), .. }])
                if is_accumulator(left) && elements.len() == 1 =>
            {
                let item = self.eval(program, &elements[0].value)?;
                self.budget.charge(12)?;
                self.budget.work(16)?;
                append(so_far?, item)
            }
            // Quantifiers: an error so far gives way to an operand that decides.
            ("_&&_" | "_||_", [_, operand]) => {
                let decides = function.as_ref() == "_||_";
                self.budget.charge(1)?;
                match (so_far, self.eval(program, operand)) {
                    (Err(EvalError::CostExceeded), _) | (_, Err(EvalError::CostExceeded)) => {
                        Err(EvalError::CostExceeded)
                    }
                    (_, Ok(Value::Bool(value))) if value == decides => Ok(Value::Bool(decides)),
                    (so_far, Ok(Value::Bool(_))) => so_far,
                    (Err(error), _) | (Ok(_), Err(error)) => Err(error),
                    (Ok(_), Ok(_)) => Err(EvalError::NoSuchOverload),
                }
            }
            ("cel.@mapInsert", [_, entry]) => {
                let entry = self.eval(program, entry)?;
                self.budget.charge(2)?;
                self.budget.work(64)?;
                insert(so_far?, &entry)
            }
            _ => {
                let depth = self.locals.len();
                self.locals.push((&fold.accumulator, so_far?));
                let outcome = self.eval(program, step);
                self.locals.truncate(depth);
                outcome
            }
        }
    }
}

/// What a fold goes over.
enum Items<'a> {
    List(List<'a>),
    Map(Vec<Key>, Map<'a>),
}

impl<'a> Items<'a> {
    fn len(&self) -> usize {
        match self {
            Items::List(list) => list.len(),
            Items::Map(keys, _) => keys.len(),
        }
    }

    fn get(&self, at: usize, two: bool) -> Option<(Value<'a>, Value<'a>)> {
        match self {
            Items::List(list) if two => Some((Value::Int(at as i64), list.get(at)?)),
            Items::List(list) => Some((list.get(at)?, Value::Null)),
            Items::Map(keys, map) => {
                let key = keys.get(at)?;
                let value = if two { map.get(key)? } else { Value::Null };
                Some((key.value(), value))
            }
        }
    }
}

fn append<'a>(so_far: Value<'a>, item: Value<'a>) -> Outcome<'a> {
    let Value::List(List::Owned { mut items, depth }) = so_far else { return Err(EvalError::NoSuchOverload) };
    let depth = depth.max(item.depth() + 1);
    if depth > crate::value::MAX_DEPTH {
        return Err(EvalError::CostExceeded);
    }
    Arc::make_mut(&mut items).push(item);
    Ok(Value::List(List::Owned { items, depth }))
}

fn insert<'a>(so_far: Value<'a>, entry: &Value<'a>) -> Outcome<'a> {
    let (Value::Map(Map::Owned(mut map)), Value::Map(entry)) = (so_far, entry) else {
        return Err(EvalError::NoSuchOverload);
    };
    for key in entry.keys() {
        let Some(value) = entry.get(&key) else { continue };
        let held = Arc::make_mut(&mut map);
        held.depth = held.depth.max(value.depth() + 1);
        if held.depth > crate::value::MAX_DEPTH {
            return Err(EvalError::CostExceeded);
        }
        if held.entries.insert(key.clone(), value).is_some() {
            return Err(EvalError::DuplicateKey(key.to_string()));
        }
    }
    Ok(Value::Map(Map::Owned(map)))
}

fn constant(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(bool) => Value::Bool(*bool),
        Literal::Int(int) => Value::Int(*int),
        Literal::Uint(uint) => Value::Uint(*uint),
        Literal::Double(double) => Value::Double(*double),
        Literal::String(text) => Value::String(Text::Borrowed(text)),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}
