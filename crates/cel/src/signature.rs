//! Declarations of functions, read from lines as `string.split(string, int) -> list(string)`.
//!
//! Types with one capital letter stand for any type. What the server itself declares is tested, so a
//! line that cannot be read is a fault of the program.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::library::{LIBRARIES, Native};
use crate::types::Type;

/// One way to call a function.
#[derive(Debug)]
pub struct Overload {
    pub member: bool,
    /// With the target of a member call first.
    pub params: Vec<Type>,
    pub result: Type,
    /// How many types it leaves open.
    pub open: u32,
}

/// A function by name: its overloads and what runs it.
pub struct Function {
    pub overloads: Vec<Overload>,
    pub native: Native,
}

/// Every function of the environment.
pub fn functions() -> &'static HashMap<&'static str, Function> {
    static FUNCTIONS: OnceLock<HashMap<&'static str, Function>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let mut all: HashMap<&'static str, Function> = HashMap::new();
        for (signatures, native) in LIBRARIES.iter().flat_map(|library| library.iter()) {
            for line in signatures.iter() {
                let (name, overload) = read(line).unwrap_or_else(|| unreachable!("{line}: tested"));
                let function =
                    all.entry(name).or_insert_with(|| Function { overloads: Vec::new(), native: *native });
                function.overloads.push(overload);
            }
        }
        all
    })
}

/// A type by its text.
pub fn type_of(text: &str) -> Option<Type> {
    let mut open = Vec::new();
    read_type(text.trim(), &mut open)
}

fn read(line: &'static str) -> Option<(&'static str, Overload)> {
    let (call, result) = line.rsplit_once(" -> ")?;
    let end = call.strip_suffix(')')?;
    // The parameters open at the bracket that the last one closes.
    let mut depth = 0;
    let open_at = end.char_indices().rev().find_map(|(at, c)| {
        match c {
            ')' => depth += 1,
            '(' if depth == 0 => return Some(at),
            '(' => depth -= 1,
            _ => {}
        }
        None
    })?;
    let (head, params) = (&end[..open_at], &end[open_at + 1..]);
    let mut open = Vec::new();
    let mut types = Vec::new();
    let (member, name) = match head.rsplit_once('~') {
        Some((target, name)) => {
            types.push(read_type(target, &mut open)?);
            (true, name)
        }
        None => (false, head),
    };
    for param in split(params) {
        types.push(read_type(param, &mut open)?);
    }
    let result = read_type(result, &mut open)?;
    Some((name, Overload { member, params: types, result, open: open.len() as u32 }))
}

fn split(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        out.push(last);
    }
    out
}

fn read_type(text: &str, open: &mut Vec<String>) -> Option<Type> {
    if let Some((name, rest)) = text.split_once('(') {
        let args: Option<Vec<Type>> =
            split(rest.strip_suffix(')')?).into_iter().map(|one| read_type(one, open)).collect();
        let args = args?;
        return Some(match (name, args.as_slice()) {
            ("list", [of]) => Type::list(of.clone()),
            ("map", [key, value]) => Type::map(key.clone(), value.clone()),
            ("optional", [of]) => Type::Optional(Arc::new(of.clone())),
            ("type", [of]) => Type::Type(Arc::new(of.clone())),
            _ => return None,
        });
    }
    Some(match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        one if one.len() == 1 => {
            let at = open.iter().position(|known| known == one).unwrap_or_else(|| {
                open.push(one.to_owned());
                open.len() - 1
            });
            Type::Var(at as u32)
        }
        name => Type::Opaque(OPAQUE.into_iter().find(|known| *known == name)?),
    })
}

/// The types of the libraries.
const OPAQUE: [&str; 12] = [
    "kubernetes.Quantity",
    "kubernetes.URL",
    "net.IP",
    "net.CIDR",
    "kubernetes.NamedFormat",
    "kubernetes.Semver",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
    "JSONPatch",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_can_be_read() {
        for (signatures, _) in LIBRARIES.iter().flat_map(|library| library.iter()) {
            for line in signatures.iter() {
                assert!(read(line).is_some(), "{line}");
            }
        }
        assert!(functions().len() > 80);
        let (name, overload) = read("list(A)~indexOf(A) -> int").expect("a declaration");
        assert_eq!((name, overload.member, overload.params.len(), overload.open), ("indexOf", true, 2, 1));
    }
}
