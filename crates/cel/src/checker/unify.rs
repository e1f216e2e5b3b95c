//! Open types and what is found out about them.

use std::sync::Arc;

use crate::types::Type;

/// How deep types may be compared; deeper ones are taken as dynamic.
const MAX_DEPTH: u32 = 64;

/// What open types stand for, with a trail so that a try can be taken back.
#[derive(Default)]
pub struct Bindings {
    known: Vec<Option<Type>>,
    trail: Vec<(u32, Option<Type>)>,
}

/// A state to go back to.
pub struct Mark {
    open: usize,
    trail: usize,
}

/// A declared type with its open types numbered from `base`.
pub fn shifted(ty: &Type, base: u32) -> Type {
    match ty {
        Type::Var(at) => Type::Var(at + base),
        Type::List(of) => Type::list(shifted(of, base)),
        Type::Map(key, value) => Type::map(shifted(key, base), shifted(value, base)),
        Type::Optional(of) => Type::Optional(Arc::new(shifted(of, base))),
        Type::Type(of) => Type::Type(Arc::new(shifted(of, base))),
        other => other.clone(),
    }
}

impl Bindings {
    pub fn fresh(&mut self) -> Type {
        Type::Var(self.open(1))
    }

    /// Makes room for more open types and answers the number of the first.
    pub fn open(&mut self, count: u32) -> u32 {
        let base = self.known.len() as u32;
        self.known.resize(self.known.len() + count as usize, None);
        base
    }

    pub fn mark(&self) -> Mark {
        Mark { open: self.known.len(), trail: self.trail.len() }
    }

    pub fn rewind(&mut self, mark: Mark) {
        while self.trail.len() > mark.trail {
            if let Some((at, before)) = self.trail.pop() {
                self.known[at as usize] = before;
            }
        }
        self.known.truncate(mark.open);
    }

    /// A type with what is known about its outermost part.
    pub fn shallow(&self, ty: &Type) -> Type {
        let mut at = ty;
        for _ in 0..=self.known.len() {
            let Type::Var(var) = at else { break };
            match self.known.get(*var as usize) {
                Some(Some(known)) => at = known,
                _ => break,
            }
        }
        at.clone()
    }

    /// A type with everything known filled in; what stayed open is dynamic.
    pub fn finish(&self, ty: &Type) -> Type {
        self.finish_within(ty, MAX_DEPTH)
    }

    fn finish_within(&self, ty: &Type, left: u32) -> Type {
        if left == 0 {
            return Type::Dyn;
        }
        let next = |ty: &Type| self.finish_within(ty, left - 1);
        match self.shallow(ty) {
            Type::Var(_) => Type::Dyn,
            Type::List(of) => Type::list(next(&of)),
            Type::Map(key, value) => Type::map(next(&key), next(&value)),
            Type::Optional(of) => Type::Optional(Arc::new(next(&of))),
            Type::Type(of) => Type::Type(Arc::new(next(&of))),
            other => other,
        }
    }

    /// Whether a value fits a type; open types are bound on the way.
    pub fn assign(&mut self, target: &Type, value: &Type) -> bool {
        self.assign_within(target, value, MAX_DEPTH)
    }

    fn assign_within(&mut self, target: &Type, value: &Type, left: u32) -> bool {
        if left == 0 {
            return true;
        }
        let (to, from) = (self.shallow(target), self.shallow(value));
        match (&to, &from) {
            (Type::Var(a), Type::Var(b)) if a == b => true,
            (Type::Var(var), _) => self.bind(*var, from),
            (_, Type::Var(var)) => self.bind(*var, to),
            (Type::Dyn, _) => true,
            (_, Type::Dyn) => {
                // An open type that has met something dynamic stays dynamic.
                if let Type::Var(var) = target {
                    self.set(*var, Type::Dyn);
                }
                true
            }
            (Type::List(a), Type::List(b))
            | (Type::Optional(a), Type::Optional(b))
            | (Type::Type(a), Type::Type(b)) => self.assign_within(a, b, left - 1),
            (Type::Map(a, b), Type::Map(c, d)) => {
                self.assign_within(a, c, left - 1) && self.assign_within(b, d, left - 1)
            }
            (Type::Null, Type::Object(_) | Type::Opaque(_) | Type::Duration | Type::Timestamp)
            | (Type::Object(_) | Type::Opaque(_) | Type::Duration | Type::Timestamp, Type::Null) => true,
            (a, b) => a == b,
        }
    }

    fn set(&mut self, var: u32, ty: Type) {
        let slot = &mut self.known[var as usize];
        self.trail.push((var, slot.replace(ty)));
    }

    fn bind(&mut self, var: u32, ty: Type) -> bool {
        if self.occurs(var, &ty, MAX_DEPTH) {
            return false;
        }
        self.set(var, ty);
        true
    }

    fn occurs(&self, var: u32, ty: &Type, left: u32) -> bool {
        if left == 0 {
            return true;
        }
        match self.shallow(ty) {
            Type::Var(other) => other == var,
            Type::List(of) | Type::Optional(of) | Type::Type(of) => self.occurs(var, &of, left - 1),
            Type::Map(key, value) => self.occurs(var, &key, left - 1) || self.occurs(var, &value, left - 1),
            _ => false,
        }
    }
}
