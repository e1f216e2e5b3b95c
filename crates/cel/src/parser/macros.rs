//! Macros: calls that become folds while they are parsed.

use std::sync::Arc;

use super::{Parse, Parser};
use crate::ast::{ACCUMULATOR, Element, Entry, Expr, Fold, Kind, Literal, UNUSED};
use crate::source::Issue;

/// The parts of a fold that differ between macros.
struct Shape {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

impl Parser<'_> {
    pub(super) fn global_call(&mut self, at: u32, name: Arc<str>, mut args: Vec<Expr>) -> Parse<Expr> {
        if name.as_ref() == "has" && args.len() == 1 {
            let argument = args.remove(0);
            return match argument.kind {
                Kind::Select { operand, field, test: false } => {
                    self.node(at, Kind::Select { operand, field, test: true })
                }
                _ => Err(Issue::new(argument.at, "invalid argument to has() macro")),
            };
        }
        self.node(at, Kind::Call { function: name, target: None, args })
    }

    pub(super) fn member_call(
        &mut self,
        at: u32,
        target: Expr,
        name: Arc<str>,
        args: Vec<Expr>,
    ) -> Parse<Expr> {
        match (name.as_ref(), args.len()) {
            ("all" | "exists" | "exists_one" | "existsOne", 2 | 3)
            | ("map" | "filter", 2)
            | ("map", 3)
            | ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => {
                self.fold(at, target, &name, args)
            }
            ("optMap" | "optFlatMap", 2) => self.optional_map(at, target, &name, args),
            ("bind", 3) if matches!(&target.kind, Kind::Ident(name) if name.as_ref() == "cel") => {
                let [name, value, body] = take(args);
                let name = self.variable(&name, "cel.bind() variable names must be simple identifiers")?;
                self.bind(at, name, value, body)
            }
            _ => self.node(at, Kind::Call { function: name, target: Some(Box::new(target)), args }),
        }
    }

    fn fold(&mut self, at: u32, range: Expr, name: &str, mut args: Vec<Expr>) -> Parse<Expr> {
        let plain = "argument must be a simple name";
        let variable = self.variable(&args.remove(0), plain)?;
        let two = name.starts_with("transform") || (args.len() == 2 && !matches!(name, "map"));
        let second = if two { Some(self.variable(&args.remove(0), plain)?) } else { None };
        if second.as_ref() == Some(&variable) {
            return Err(Issue::new(at, format!("duplicate variable name: {variable}")));
        }
        let shape = match name {
            "all" | "exists" | "exists_one" | "existsOne" => self.quantifier(at, name, args.remove(0))?,
            "filter" => {
                let item = self.ident(at, &variable)?;
                self.collect(at, Some(args.remove(0)), item)?
            }
            "map" | "transformList" => {
                let item = args.pop().ok_or_else(|| Issue::new(at, plain))?;
                self.collect(at, args.pop(), item)?
            }
            _ => {
                let item = args.pop().ok_or_else(|| Issue::new(at, plain))?;
                let entry = name == "transformMapEntry";
                let key = if entry { None } else { Some(self.ident(at, &variable)?) };
                self.collect_map(at, args.pop(), key, item)?
            }
        };
        let Shape { init, condition, step, result } = shape;
        let accumulator = ACCUMULATOR.into();
        self.node(
            at,
            Kind::Fold(Box::new(Fold {
                range,
                variable,
                second,
                accumulator,
                init,
                condition,
                step,
                result,
            })),
        )
    }

    fn quantifier(&mut self, at: u32, name: &str, test: Expr) -> Parse<Shape> {
        let found = self.accumulator(at)?;
        Ok(match name {
            "all" => Shape {
                init: self.literal(at, Literal::Bool(true))?,
                condition: self.call(at, "@not_strictly_false", vec![found])?,
                step: {
                    let found = self.accumulator(at)?;
                    self.call(at, "_&&_", vec![found, test])?
                },
                result: self.accumulator(at)?,
            },
            "exists" => Shape {
                init: self.literal(at, Literal::Bool(false))?,
                condition: {
                    let not = self.call(at, "!_", vec![found])?;
                    self.call(at, "@not_strictly_false", vec![not])?
                },
                step: {
                    let found = self.accumulator(at)?;
                    self.call(at, "_||_", vec![found, test])?
                },
                result: self.accumulator(at)?,
            },
            _ => Shape {
                init: self.literal(at, Literal::Int(0))?,
                condition: self.literal(at, Literal::Bool(true))?,
                step: {
                    let one = self.literal(at, Literal::Int(1))?;
                    let more = self.call(at, "_+_", vec![found, one])?;
                    let same = self.accumulator(at)?;
                    self.call(at, "_?_:_", vec![test, more, same])?
                },
                result: {
                    let count = self.accumulator(at)?;
                    let one = self.literal(at, Literal::Int(1))?;
                    self.call(at, "_==_", vec![count, one])?
                },
            },
        })
    }

    /// Appends an item for every element that passes.
    fn collect(&mut self, at: u32, filter: Option<Expr>, item: Expr) -> Parse<Shape> {
        let so_far = self.accumulator(at)?;
        let one = self.node(at, Kind::List(vec![Element { value: item, optional: false }]))?;
        let step = self.call(at, "_+_", vec![so_far, one])?;
        let step = self.only_if(at, filter, step)?;
        Ok(Shape {
            init: self.node(at, Kind::List(Vec::new()))?,
            condition: self.literal(at, Literal::Bool(true))?,
            step,
            result: self.accumulator(at)?,
        })
    }

    /// Inserts an entry for every element that passes; without a key, `item` is a map of entries.
    fn collect_map(&mut self, at: u32, filter: Option<Expr>, key: Option<Expr>, item: Expr) -> Parse<Shape> {
        let so_far = self.accumulator(at)?;
        let entry = match key {
            Some(key) => self.node(at, Kind::Map(vec![Entry { key, value: item, optional: false }]))?,
            None => item,
        };
        let step = self.call(at, "cel.@mapInsert", vec![so_far, entry])?;
        let step = self.only_if(at, filter, step)?;
        Ok(Shape {
            init: self.node(at, Kind::Map(Vec::new()))?,
            condition: self.literal(at, Literal::Bool(true))?,
            step,
            result: self.accumulator(at)?,
        })
    }

    fn only_if(&mut self, at: u32, filter: Option<Expr>, step: Expr) -> Parse<Expr> {
        let Some(filter) = filter else { return Ok(step) };
        let same = self.accumulator(at)?;
        self.call(at, "_?_:_", vec![filter, step, same])
    }

    /// A name for a value within an expression.
    fn bind(&mut self, at: u32, name: Arc<str>, value: Expr, body: Expr) -> Parse<Expr> {
        let fold = Fold {
            range: self.node(at, Kind::List(Vec::new()))?,
            variable: UNUSED.into(),
            second: None,
            condition: self.literal(at, Literal::Bool(false))?,
            step: self.ident(at, &name)?,
            accumulator: name,
            init: value,
            result: body,
        };
        self.node(at, Kind::Fold(Box::new(fold)))
    }

    /// `optMap` and `optFlatMap`: what is there goes through an expression.
    fn optional_map(&mut self, at: u32, target: Expr, name: &str, args: Vec<Expr>) -> Parse<Expr> {
        let [variable, body] = take(args);
        let what = format!("{name}() variable name must be a simple identifier");
        let variable = self.variable(&variable, &what)?;
        // The target stands once: it is bound to a name that no source can spell.
        let held: Arc<str> = "@target".into();
        let on_target = |parser: &mut Self, function: &str| {
            let target = parser.ident(at, &held)?;
            let target = Some(Box::new(target));
            parser.node(at, Kind::Call { function: function.into(), target, args: Vec::new() })
        };
        let present = on_target(self, "hasValue")?;
        let value = on_target(self, "value")?;
        let bound = self.bind(at, variable, value, body)?;
        let some = if name == "optMap" { self.call(at, "optional.of", vec![bound])? } else { bound };
        let none = self.call(at, "optional.none", Vec::new())?;
        let chosen = self.call(at, "_?_:_", vec![present, some, none])?;
        self.bind(at, held, target, chosen)
    }

    fn variable(&self, argument: &Expr, otherwise: &str) -> Parse<Arc<str>> {
        match &argument.kind {
            Kind::Ident(name) if name.as_ref() == "__result__" => {
                Err(Issue::new(argument.at, "iteration variable overwrites accumulator variable"))
            }
            Kind::Ident(name) => Ok(name.clone()),
            _ => Err(Issue::new(argument.at, otherwise)),
        }
    }

    fn ident(&mut self, at: u32, name: &str) -> Parse<Expr> {
        self.node(at, Kind::Ident(name.into()))
    }

    fn accumulator(&mut self, at: u32) -> Parse<Expr> {
        self.ident(at, ACCUMULATOR)
    }

    fn literal(&mut self, at: u32, literal: Literal) -> Parse<Expr> {
        self.node(at, Kind::Literal(literal))
    }
}

/// As many arguments as the caller has counted.
fn take<const N: usize>(args: Vec<Expr>) -> [Expr; N] {
    args.try_into().unwrap_or_else(|_| unreachable!("the arguments were counted before"))
}
