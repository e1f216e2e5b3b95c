//! The cost of calls, by function.

use crate::ast::{Expr, Kind, Literal};
use crate::types::Type;

use super::{Coster, EntrySize, Estimate, UNKNOWN};

const TENTH: f64 = 0.1;
const REGEX: f64 = 0.25;
/// How long the expression of a named format is taken to be.
const NAME_FORMAT: f64 = 128.0;

/// A call's own cost and the size of its result.
type Cost = (Estimate, Option<Estimate>);

impl Coster<'_> {
    pub(super) fn call(&mut self, expr: &Expr) -> Estimate {
        let Kind::Call { function, target, args } = &expr.kind else { return Estimate::fixed(0) };
        let arg_costs: Vec<Estimate> = args.iter().map(|arg| self.cost(arg)).collect();
        let target_cost = target.as_ref().map_or(Estimate::fixed(0), |target| self.cost(target));
        let sum = arg_costs.iter().fold(Estimate::fixed(0), |sum, cost| sum.plus(*cost));
        match function.as_ref() {
            "_&&_" | "_||_" => {
                let min = arg_costs.first().map_or(0, |first| first.min);
                return Estimate { min, max: sum.max };
            }
            "_?_:_" => {
                let size = self.size_or_unknown(&args[1]).union(self.size_or_unknown(&args[2]));
                let entry = match (self.entry(&args[1]), self.entry(&args[2])) {
                    (Some(a), Some(b)) => Some(united(a, b)),
                    _ => None,
                };
                self.keep(expr, Some(size), entry);
                return arg_costs[0].plus(arg_costs[1].union(arg_costs[2]));
            }
            "dyn" if args.len() == 1 => {
                let (size, entry) = (self.size(&args[0]), self.entry(&args[0]));
                self.keep(expr, size, entry);
                return Estimate::fixed(1).plus(sum);
            }
            "_[_]" | "_[?_]" if args.len() == 2 => {
                let step = if matches!(self.ty(&args[0]), Type::List(_)) { "@items" } else { "@values" };
                self.extend(expr, &args[0], step.into());
                let size = self.entry(&args[0]).map(|entry| entry.value).or_else(|| self.size(expr));
                self.keep(expr, size, None);
                return Estimate::fixed(1).plus(sum);
            }
            "_?._" if args.len() == 2 => {
                if let Kind::Literal(Literal::String(field)) = &args[1].kind {
                    self.extend(expr, &args[0], field.clone());
                }
                return Estimate::fixed(1).plus(sum);
            }
            _ => {}
        }
        let (own, size) = self.function(expr, function, target.as_deref(), args);
        let size = size.or_else(|| self.size(expr));
        self.keep(expr, size, None);
        target_cost.plus(own).plus(sum)
    }

    fn function(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Cost {
        // The target of a member call first, as at run time.
        let all: Vec<&Expr> = target.into_iter().chain(args).collect();
        let sizes: Vec<Estimate> = all.iter().map(|arg| self.size_or_unknown(arg)).collect();
        let first = sizes.first().copied().unwrap_or(UNKNOWN);
        let one = Estimate::fixed(1);
        match function {
            "check" => (Estimate::fixed(350_000), None),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                (self.each(all.first().copied(), first), None)
            }
            // Of a range: upstream has no cost for it but one.
            "ip" if target.is_some() => (one, None),
            "url"
            | "quantity"
            | "isQuantity"
            | "ip"
            | "isIP"
            | "cidr"
            | "isCIDR"
            | "semver"
            | "isSemver"
            | "jsonpatch.escapeKey" => (first.by(TENTH), None),
            "lowerAscii" | "upperAscii" | "substring" | "trim" | "charAt" | "reverse" => {
                (first.by(TENTH), Some(first))
            }
            "format" => (first.by(TENTH), None),
            "strings.quote" => {
                let size = Estimate {
                    min: first.min.saturating_add(2),
                    max: first.max.saturating_mul(2).saturating_add(2),
                };
                (first.by(TENTH), Some(size))
            }
            "ip.isCanonical" => (first.by(2.0 * TENTH), None),
            "validate" if sizes.len() > 1 => (sizes[1].by(TENTH).by(NAME_FORMAT * REGEX), None),
            "containsIP" | "containsCIDR" if sizes.len() > 1 => {
                (contained(function, matches!(self.ty(all[1]), Type::String), sizes[1]), None)
            }
            "bytes" => (first.by(TENTH), Some(Estimate { min: first.min, max: first.max.saturating_mul(4) })),
            // Upstream knows no size here and so refuses most messages that show a number.
            "string" if matches!(self.ty(&args[0]), Type::Int | Type::Uint | Type::Bool | Type::Double) => {
                (one, Some(Estimate { min: 1, max: 32 }))
            }
            "string" if self.ty(&args[0]) == &Type::Bytes => {
                (first.by(TENTH), Some(Estimate { min: first.min / 4, max: first.max }))
            }
            "replace" if sizes.len() > 2 => {
                (first.by(2.0 * TENTH), Some(replaced(first, sizes[1], sizes[2])))
            }
            "split" => {
                let most = match args.get(1).map(|arg| &arg.kind) {
                    Some(Kind::Literal(Literal::Int(most))) => u64::try_from(*most).unwrap_or(first.max),
                    _ => first.max,
                };
                (first.by(2.0 * TENTH), Some(Estimate { min: 0, max: most }))
            }
            "join" => {
                let size = self.joined(all.first().copied(), first, sizes.get(1).copied());
                (size.by(TENTH), Some(size))
            }
            "matches" | "find" | "findAll" if sizes.len() > 1 => {
                let cost = first.plus(one).by(TENTH).times(sizes[1].by(REGEX));
                let size = (function != "matches").then_some(Estimate { min: 0, max: first.max });
                (cost, size)
            }
            "startsWith" | "endsWith" if sizes.len() > 1 => (sizes[1].by(TENTH), None),
            "contains" if sizes.len() > 1 => (first.by(TENTH).times(sizes[1].by(TENTH)), None),
            "@in" if sizes.len() > 1 && matches!(self.ty(all[1]), Type::List(_)) => (sizes[1], None),
            "sets.contains" | "sets.intersects" if sizes.len() > 1 => (first.times(sizes[1]).plus(one), None),
            "sets.equivalent" if sizes.len() > 1 => {
                (first.times(sizes[1]).times(Estimate::fixed(2)).plus(one), None)
            }
            "_+_" if sizes.len() == 2 => self.sum(expr, all[0], all[1], sizes[0], sizes[1]),
            // What libraries make is compared by its parts, which are few.
            "_==_" if sizes.len() == 2 && matches!(self.ty(all[0]), Type::Opaque(_)) => (one, None),
            "_==_" | "_!=_" if sizes.len() == 2 => (compared(sizes[0], sizes[1]), None),
            "_<_" | "_<=_" | "_>_" | "_>=_" if matches!(self.ty(all[0]), Type::String | Type::Bytes) => {
                (compared(sizes[0], sizes[1]), None)
            }
            _ => (one, None),
        }
    }

    /// Going through every element, and through each text.
    fn each(&mut self, list: Option<&Expr>, size: Estimate) -> Estimate {
        let Some(list) = list else { return Estimate::fixed(1) };
        match self.ty(list).clone() {
            Type::List(of) => {
                let mut one = Estimate::fixed(1);
                if matches!(*of, Type::String | Type::Bytes) {
                    one = one.plus(self.element(list).by(TENTH));
                }
                size.times(one)
            }
            _ => size.by(TENTH),
        }
    }

    fn element(&mut self, list: &Expr) -> Estimate {
        let mut path = self.path(list);
        path.push("@items".into());
        self.declared(&path).unwrap_or(UNKNOWN)
    }

    fn joined(&mut self, list: Option<&Expr>, count: Estimate, separator: Option<Estimate>) -> Estimate {
        let mut size = match list {
            Some(list) => count.times(self.element(list)),
            None => Estimate::fixed(0),
        };
        if let Some(separator) = separator {
            let between = Estimate { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
            size = size.plus(separator.times(between));
        }
        size
    }

    fn sum(&mut self, expr: &Expr, left: &Expr, right: &Expr, a: Estimate, b: Estimate) -> Cost {
        let size = a.plus(b);
        match self.ty(left) {
            Type::List(_) | Type::Dyn => {
                if let (Some(a), Some(b)) = (self.entry(left), self.entry(right)) {
                    self.entries.insert(expr.id, united(a, b));
                }
                (Estimate::fixed(1), Some(size))
            }
            Type::String | Type::Bytes => (size.by(TENTH), Some(size)),
            _ => (Estimate::fixed(1), None),
        }
    }
}

fn united(a: EntrySize, b: EntrySize) -> EntrySize {
    EntrySize { list: a.list, key: a.key.union(b.key), value: a.value.union(b.value) }
}

fn compared(a: Estimate, b: Estimate) -> Estimate {
    let max = a.max.min(b.max);
    Estimate { min: u64::from(max > 0), max }.by(TENTH)
}

/// Two addresses of 4 to 16 bytes, masked once more for a range, and the parsing of a text.
fn contained(function: &str, text: bool, size: Estimate) -> Estimate {
    let address = Estimate { min: 4, max: 16 };
    let mut cost = address.plus(address).by(TENTH);
    if function == "containsCIDR" {
        cost = cost.plus(address.by(TENTH)).plus(Estimate::fixed(1));
    }
    if text { cost.plus(size.by(TENTH)) } else { cost }
}

/// The shortest text with the longest parts replaced, the longest with the shortest.
fn replaced(on: Estimate, from: Estimate, to: Estimate) -> Estimate {
    let times = |on: u64, from: u64| (on as f64 / from as f64).ceil() as u64;
    Estimate {
        min: times(on.min, from.max).saturating_mul(to.min),
        max: times(on.max, from.min).saturating_mul(to.max),
    }
}
