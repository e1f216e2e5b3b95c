//! Finds the type of every expression, and tells what has none.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Expr, Fold, Id, Kind, Literal, UNUSED};
use crate::parser::Parsed;
use crate::signature::{Function, Overload, functions};
use crate::source::Issue;
use crate::types::{Decl, ObjectType, Shape, Type};

mod unify;

use unify::Bindings;

/// Most faults that are told of one expression.
const MAX_ISSUES: usize = 100;

/// The variables that an expression may use, and the structures that it may make.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub variables: HashMap<String, Arc<Decl>>,
    pub structures: Option<Structures>,
}

/// The type of `Object…{}` by its dotted name, should there be one.
pub type Structures = fn(&str) -> Option<Structure>;

/// A structure that an expression may make.
#[derive(Clone, Debug)]
pub enum Structure {
    /// Every field is free.
    Open(Arc<ObjectType>),
    /// Only these fields, with these types.
    Closed(Type, &'static [(&'static str, Type)]),
}

impl Environment {
    pub fn with(mut self, name: &str, decl: Arc<Decl>) -> Self {
        self.variables.insert(name.to_owned(), decl);
        self
    }
}

/// An expression with its types.
#[derive(Clone, Debug)]
pub struct Checked {
    pub expr: Expr,
    pub types: Vec<Type>,
    /// The variables of the environment that it refers to.
    pub references: Vec<String>,
}

impl Checked {
    pub fn type_of(&self, id: Id) -> &Type {
        self.types.get(id as usize).unwrap_or(&Type::Dyn)
    }

    pub fn result(&self) -> &Type {
        self.type_of(self.expr.id)
    }
}

/// Checks a parsed expression.
pub fn check(parsed: Parsed, environment: &Environment) -> Result<Checked, Vec<Issue>> {
    let mut expr = parsed.expr;
    let mut checker = Checker {
        environment,
        types: vec![Type::Dyn; parsed.nodes as usize],
        scopes: Vec::new(),
        bindings: Bindings::default(),
        issues: Vec::new(),
        references: Vec::new(),
        mixed: false,
    };
    checker.visit(&mut expr);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let types = checker.types.iter().map(|ty| checker.bindings.finish(ty)).collect();
    Ok(Checked { expr, types, references: checker.references })
}

struct Checker<'a> {
    environment: &'a Environment,
    types: Vec<Type>,
    scopes: Vec<(Arc<str>, Type)>,
    bindings: Bindings,
    issues: Vec<Issue>,
    references: Vec<String>,
    /// Within the arguments of `format`, whose list may mix types.
    mixed: bool,
}

impl Checker<'_> {
    fn visit(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        let ty = match &mut expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => self.ident(at, &name.clone()),
            Kind::Select { .. } => self.select(expr),
            Kind::Call { .. } => self.call(expr),
            Kind::List(elements) => {
                let mut of: Option<Type> = None;
                for element in elements {
                    let mut ty = self.visit(&mut element.value);
                    if element.optional {
                        ty = self.unwrapped(element.value.at, &ty);
                    }
                    of = Some(self.join(element.value.at, of, ty));
                }
                Type::list(of.unwrap_or_else(|| self.bindings.fresh()))
            }
            Kind::Map(entries) => {
                let (mut keys, mut values): (Option<Type>, Option<Type>) = (None, None);
                for entry in entries {
                    let key = self.visit(&mut entry.key);
                    keys = Some(self.join(entry.key.at, keys, key));
                    let mut value = self.visit(&mut entry.value);
                    if entry.optional {
                        value = self.unwrapped(entry.value.at, &value);
                    }
                    values = Some(self.join(entry.value.at, values, value));
                }
                let key = keys.unwrap_or_else(|| self.bindings.fresh());
                Type::map(key, values.unwrap_or_else(|| self.bindings.fresh()))
            }
            Kind::Struct { .. } => self.structure(expr),
            Kind::Fold(fold) => self.fold(fold),
        };
        if let Some(slot) = self.types.get_mut(expr.id as usize) {
            *slot = ty.clone();
        }
        ty
    }

    fn fault(&mut self, at: u32, message: String) -> Type {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(Issue::new(at, message));
        }
        // What has no type fits everywhere, so that one fault is told once.
        Type::Dyn
    }

    /// The elements of a list or map have one type.
    fn join(&mut self, at: u32, so_far: Option<Type>, next: Type) -> Type {
        let Some(so_far) = so_far else { return next };
        if self.mixed {
            return if self.bindings.finish(&so_far) == self.bindings.finish(&next) {
                next
            } else {
                Type::Dyn
            };
        }
        if self.bindings.assign(&so_far, &next) {
            return if self.bindings.shallow(&so_far) == Type::Dyn { next } else { so_far };
        }
        let (expected, found) = (self.bindings.finish(&so_far), self.bindings.finish(&next));
        self.fault(at, format!("expected type '{expected}' but found '{found}'"));
        so_far
    }

    fn unwrapped(&mut self, at: u32, ty: &Type) -> Type {
        match self.bindings.shallow(ty) {
            Type::Optional(of) => of.as_ref().clone(),
            Type::Dyn => Type::Dyn,
            other => {
                let other = self.bindings.finish(&other);
                self.fault(at, format!("expected type 'optional_type({other})' but found '{other}'"))
            }
        }
    }

    fn local(&self, name: &str) -> Option<Type> {
        self.scopes.iter().rev().find(|(known, _)| known.as_ref() == name).map(|(_, ty)| ty.clone())
    }

    fn known(&self, name: &str) -> bool {
        self.local(name).is_some() || self.environment.variables.contains_key(name)
    }

    fn ident(&mut self, at: u32, name: &str) -> Type {
        if let Some(ty) = self.local(name) {
            return ty;
        }
        if let Some(decl) = self.environment.variables.get(name) {
            if !self.references.iter().any(|known| known == name) {
                self.references.push(name.to_owned());
            }
            return decl.ty.clone();
        }
        match named_type(name) {
            Some(ty) => Type::Type(Arc::new(ty)),
            None => self.fault(at, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    fn select(&mut self, expr: &mut Expr) -> Type {
        let qualified = expr.qualified_name();
        let at = expr.at;
        let Kind::Select { operand, field, test } = &mut expr.kind else { return Type::Dyn };
        // A variable may have a dotted name, as authorizer.requestResource.
        if let Some(name) = qualified.as_deref().filter(|name| self.environment.variables.contains_key(*name))
        {
            let name = name.to_owned();
            let ty = self.ident(at, &name);
            expr.kind = Kind::Ident(name.into());
            return ty;
        }
        // A dotted name may be that of a type, as google.protobuf.Timestamp or net.IP.
        if let Some(ty) = qualified.as_deref().filter(|_| !*test).and_then(named_type) {
            let head = qualified.as_deref().and_then(|name| name.split('.').next()).unwrap_or_default();
            if !self.known(head) {
                let name = qualified.unwrap_or_default();
                expr.kind = Kind::Ident(name.into());
                return Type::Type(Arc::new(ty));
            }
        }
        let on = self.visit(operand);
        let (field, test) = (field.clone(), *test);
        let ty = self.field(at, &on, &field);
        if test { Type::Bool } else { ty }
    }

    fn field(&mut self, at: u32, on: &Type, field: &str) -> Type {
        match self.bindings.shallow(on) {
            Type::Dyn => Type::Dyn,
            Type::Map(_, value) => value.as_ref().clone(),
            Type::Object(object) => match object.field(field) {
                Some(found) => found.decl.ty.clone(),
                None if object.open => Type::Dyn,
                None => self.fault(at, format!("undefined field '{field}'")),
            },
            Type::Optional(of) => {
                let inner = self.field(at, &of, field);
                Type::Optional(Arc::new(inner))
            }
            Type::Var(_) => {
                let value = self.bindings.fresh();
                self.bindings.assign(on, &Type::Dyn);
                let _ = value;
                Type::Dyn
            }
            other => {
                let other = self.bindings.finish(&other);
                self.fault(at, format!("type '{other}' does not support field selection"))
            }
        }
    }

    fn call(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        let Kind::Call { function, target, args } = &mut expr.kind else { return Type::Dyn };
        if matches!(function.as_ref(), "_&&_" | "_||_") {
            for arg in args.iter_mut() {
                let ty = self.visit(arg);
                if !self.bindings.assign(&Type::Bool, &ty) {
                    let shown = self.bindings.finish(&ty);
                    self.fault(
                        at,
                        format!("found no matching overload for '{function}' applied to '(bool, {shown})'"),
                    );
                }
            }
            return Type::Bool;
        }
        // A qualified function is written as a member call.
        if let Some(name) = target.as_deref().and_then(Expr::qualified_name) {
            let head = name.split('.').next().unwrap_or_default();
            let full = format!("{name}.{function}");
            if !self.known(head) && self.offers(&full) {
                *function = full.into();
                *target = None;
            }
        }
        let mut types = Vec::with_capacity(args.len() + 1);
        if let Some(target) = target {
            types.push(self.visit(target));
        }
        for arg in args.iter_mut() {
            let before = std::mem::replace(&mut self.mixed, function.as_ref() == "format");
            types.push(self.visit(arg));
            self.mixed = before;
        }
        if function.as_ref() == "_?._" {
            let field = match &args[1].kind {
                Kind::Literal(Literal::String(field)) => field.clone(),
                _ => return self.fault(at, "unsupported optional field selection".into()),
            };
            let on = match self.bindings.shallow(&types[0]) {
                Type::Optional(of) => of.as_ref().clone(),
                other => other,
            };
            let inner = self.field(at, &on, &field);
            return Type::Optional(Arc::new(inner));
        }
        let Some(found) = functions().get(function.as_ref()) else {
            return self.fault(at, format!("undeclared reference to '{function}' (in container '')"));
        };
        let member = target.is_some();
        let name = function.clone();
        self.overloads(at, &name, found, &types, member)
    }

    /// Whether there is a function of this qualified name.
    fn offers(&self, name: &str) -> bool {
        let only_with_patches = name == crate::library::patch::ESCAPE_KEY;
        functions().contains_key(name) && (!only_with_patches || self.environment.structures.is_some())
    }

    fn overloads(&mut self, at: u32, name: &str, function: &Function, args: &[Type], member: bool) -> Type {
        let mut result: Option<Type> = None;
        let candidates = function
            .overloads
            .iter()
            .filter(|overload| overload.member == member && overload.params.len() == args.len());
        for overload in candidates {
            let Some(ty) = self.matches(overload, args) else { continue };
            result = Some(match result {
                None => ty,
                Some(earlier) if self.bindings.finish(&earlier) == self.bindings.finish(&ty) => earlier,
                Some(_) => Type::Dyn,
            });
        }
        result.unwrap_or_else(|| {
            let shown: Vec<String> = args.iter().map(|arg| self.bindings.finish(arg).to_string()).collect();
            let shown = match (member, shown.split_first()) {
                (true, Some((target, rest))) => format!("{target}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            self.fault(at, format!("found no matching overload for '{name}' applied to '{shown}'"))
        })
    }

    fn matches(&mut self, overload: &Overload, args: &[Type]) -> Option<Type> {
        let mark = self.bindings.mark();
        let base = self.bindings.open(overload.open);
        let fits = overload
            .params
            .iter()
            .zip(args)
            .all(|(param, arg)| self.bindings.assign(&unify::shifted(param, base), arg));
        if !fits {
            self.bindings.rewind(mark);
            return None;
        }
        Some(unify::shifted(&overload.result, base))
    }

    fn structure(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        let Kind::Struct { name, fields } = &mut expr.kind else { return Type::Dyn };
        let name = name.clone();
        let found = self.environment.structures.and_then(|find| find(&name));
        let Some(structure) = found else {
            for field in fields.iter_mut() {
                self.visit(&mut field.value);
            }
            return self.fault(at, format!("undeclared reference to '{name}' (in container '')"));
        };
        for field in fields.iter_mut() {
            let mut ty = self.visit(&mut field.value);
            if field.optional {
                ty = self.unwrapped(field.value.at, &ty);
            }
            let wanted = match &structure {
                // Whether a structure is the one of the field's path is seen when it is made.
                Structure::Open(_) => Type::Dyn,
                Structure::Closed(_, known) => {
                    match known.iter().find(|(known, _)| *known == field.name.as_ref()) {
                        Some((_, ty)) => ty.clone(),
                        None => self.fault(field.at, format!("undefined field '{}'", field.name)),
                    }
                }
            };
            if !self.bindings.assign(&wanted, &ty) {
                let shown = self.bindings.finish(&ty);
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{shown}'",
                    field.name
                );
                self.fault(field.at, message);
            }
        }
        match structure {
            Structure::Open(ty) => Type::Object(ty),
            Structure::Closed(ty, _) => ty,
        }
    }

    fn fold(&mut self, fold: &mut Fold) -> Type {
        let range = self.visit(&mut fold.range);
        let init = self.visit(&mut fold.init);
        let depth = self.scopes.len();
        self.scopes.push((fold.accumulator.clone(), init.clone()));
        let outer = self.scopes.len();
        if fold.variable.as_ref() != UNUSED {
            let (first, second) = self.ranged(fold.range.at, &range, fold.second.is_some());
            self.scopes.push((fold.variable.clone(), first));
            if let Some(name) = &fold.second {
                self.scopes.push((name.clone(), second));
            }
        }
        let condition = self.visit(&mut fold.condition);
        if !self.bindings.assign(&Type::Bool, &condition) {
            let shown = self.bindings.finish(&condition);
            self.fault(fold.condition.at, format!("expected type 'bool' but found '{shown}'"));
        }
        let step = self.visit(&mut fold.step);
        if !self.bindings.assign(&init, &step) {
            let (expected, found) = (self.bindings.finish(&init), self.bindings.finish(&step));
            self.fault(fold.step.at, format!("expected type '{expected}' but found '{found}'"));
        }
        self.scopes.truncate(outer);
        let result = self.visit(&mut fold.result);
        self.scopes.truncate(depth);
        result
    }

    /// The types of a fold's variables.
    fn ranged(&mut self, at: u32, range: &Type, two: bool) -> (Type, Type) {
        match self.bindings.shallow(range) {
            Type::List(of) if two => (Type::Int, of.as_ref().clone()),
            Type::List(of) => (of.as_ref().clone(), Type::Dyn),
            Type::Map(key, value) => (key.as_ref().clone(), value.as_ref().clone()),
            Type::Dyn | Type::Var(_) => {
                self.bindings.assign(range, &Type::Dyn);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let other = self.bindings.finish(&other);
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.fault(at, message), Type::Dyn)
            }
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// The type that a name stands for as a value.
pub fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "null_type" => Type::Null,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        "optional_type" => Type::Optional(Arc::new(Type::Dyn)),
        "type" => Type::Type(Arc::new(Type::Dyn)),
        "list" | "map" | "bool" | "int" | "uint" | "double" | "string" | "bytes" => {
            return crate::signature::type_of(name);
        }
        name if name.contains('.') => return crate::signature::type_of(name),
        _ => return None,
    })
}

/// The declaration at a path of fields, elements (`@items`), keys and values below a declared value.
pub fn declared_at<'a>(root: &'a Decl, path: &[Arc<str>]) -> Option<&'a Decl> {
    let mut at = root;
    for step in path {
        at = match (&at.shape, step.as_ref()) {
            (Shape::List(of, _), "@items") => of,
            (Shape::Map(of), "@values") => of,
            (Shape::Object(object), field) => &object.field(field)?.decl,
            _ => return None,
        };
    }
    Some(at)
}
