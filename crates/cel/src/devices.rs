//! Selectors of devices (`resource.k8s.io`): expressions over one device of a resource slice.

use std::sync::{Arc, OnceLock};

use crate::checker::Environment;
use crate::program::Program;
use crate::types::{Decl, Type};

/// Most that one selector may cost by its estimate.
pub const COST_LIMIT: u64 = 1_000_000;

/// Limits of a resource slice's fields, on which estimates are based.
const DRIVER_MAX: u64 = 63;
const ENTRIES_MAX: u64 = 32;
const VALUE_MAX: u64 = 64;

/// Why a selector is refused; the texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorFault {
    Invalid(String),
    TooComplex,
}

/// What is wrong with a selector, if anything is.
pub fn check(expression: &str) -> Option<SelectorFault> {
    let environment = environment();
    let program = match Program::compile(expression, environment) {
        Ok(program) => program,
        Err(error) => return Some(SelectorFault::Invalid(error.to_string())),
    };
    if !matches!(program.result(), Type::Bool | Type::Dyn) {
        let message = format!("must evaluate to bool or the unknown type, not {}", program.result());
        return Some(SelectorFault::Invalid(message));
    }
    (program.estimate(environment).max > COST_LIMIT).then_some(SelectorFault::TooComplex)
}

fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        // By domain, then by name.
        let by_name = |value: Decl| Decl::map(Arc::new(Decl::map(Arc::new(value), ENTRIES_MAX)), ENTRIES_MAX);
        let quantity = Decl::scalar(Type::Opaque("kubernetes.Quantity"), VALUE_MAX, 1);
        let device = Decl::structure(
            "kubernetes.DRADevice",
            [
                ("driver", Decl::scalar(Type::String, DRIVER_MAX, 2)),
                ("allowMultipleAllocations", Decl::scalar(Type::Bool, 0, 4)),
                // A bool, an integer, a string or a version, each of which has its functions.
                ("attributes", by_name(Decl::scalar(Type::Dyn, VALUE_MAX, 1))),
                ("capacity", by_name(quantity)),
            ],
        );
        Environment::default().with("device", Arc::new(device))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_compiled() {
        for good in [
            "device.driver == 'dra.example.com'",
            "device.attributes['dra.example.com'].model == 'a100' && device.attributes['dra.example.com'].memory > 5",
            "device.capacity['dra.example.com'].memory.compareTo(quantity('10Gi')) >= 0",
            "'dra.example.com' in device.attributes && 'family' in device.attributes['dra.example.com']",
            "cel.bind(dra, device.attributes['dra.example.com'], dra.a == 1 || dra.b == 2)",
            "device.attributes['d.example'].version.isGreaterThan(semver('1.2.3'))",
            "device.attributes['d.example'].healthy",
            "device.allowMultipleAllocations == true",
        ] {
            assert_eq!(check(good), None, "{good}");
        }
        let invalid = |expression: &str, part: &str| match check(expression) {
            Some(SelectorFault::Invalid(message)) => {
                assert!(message.contains(part), "{expression}: {message}")
            }
            other => panic!("{expression}: {other:?}"),
        };
        invalid("noSuchVar", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'noSuchVar'");
        invalid("device.name == 'x'", "undefined field 'name'");
        invalid("device.driver", "must evaluate to bool or the unknown type, not string");
        invalid("device.driver ==", "compilation failed: ERROR: <input>:1:");
        let each = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a + b + c + d != ''))))";
        assert_eq!(check(each), Some(SelectorFault::TooComplex));
    }
}
