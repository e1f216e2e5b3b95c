//! The expressions that every policy has: conditions and variables.

use sampan_cel::conditions::{self, Conditions, Offered};
use sampan_cel::{CompileError, Composed, Environment, Program, Type};
use serde::Deserialize;

/// A match condition, or a variable.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct RawCondition {
    pub name: String,
    pub expression: String,
}

/// What is wrong with one expression of a policy, and where it stands below `spec`.
pub struct Fault {
    pub field: String,
    pub expression: String,
    pub error: CompileError,
}

/// What the expressions of one policy share.
pub struct Compiler {
    params: bool,
    declared: Vec<(String, Type)>,
    pub faults: Vec<Fault>,
}

impl Compiler {
    /// `params`: whether the policy has parameters.
    pub fn new(params: bool) -> Self {
        Compiler { params, declared: Vec::new(), faults: Vec::new() }
    }

    /// What expressions may use, with the variables that were compiled before.
    pub fn environment(&self, authorizer: bool, patches: bool) -> Environment {
        let offered = Offered { params: self.params, namespace: true, authorizer, patches };
        conditions::environment(offered, &self.declared)
    }

    /// Compiles variables, each of which may use the earlier ones.
    pub fn variables(&mut self, raw: &[RawCondition]) -> Vec<Composed> {
        let mut variables = Vec::new();
        for (at, variable) in raw.iter().enumerate() {
            let field = format!("variables[{at}].expression");
            let found = Program::compile(&variable.expression, &self.environment(true, false));
            if let Some(program) = self.keep(field, &variable.expression, found) {
                self.declared.push((variable.name.clone(), program.result().clone()));
                variables.push(Composed { name: variable.name.clone(), program });
            }
        }
        variables
    }

    pub fn conditions(&mut self, raw: &[RawCondition]) -> Conditions {
        let offered = Offered { params: self.params, namespace: false, authorizer: true, patches: false };
        let environment = conditions::environment(offered, &[]);
        let pairs = raw.iter().map(|one| (one.name.as_str(), one.expression.as_str()));
        Conditions::compile(pairs, &environment).unwrap_or_else(|faults| {
            for (at, error) in faults {
                let expression = raw[at].expression.clone();
                self.faults.push(Fault {
                    field: format!("matchConditions[{at}].expression"),
                    expression,
                    error,
                });
            }
            Conditions::default()
        })
    }

    pub fn keep(
        &mut self,
        field: String,
        expression: &str,
        found: Result<Program, CompileError>,
    ) -> Option<Program> {
        found
            .map_err(|error| self.faults.push(Fault { field, expression: expression.to_owned(), error }))
            .ok()
    }
}

/// The faults in one text, for a policy that is stored with them.
pub fn told(faults: &[Fault]) -> String {
    let told: Vec<String> = faults.iter().map(|fault| fault.error.to_string()).collect();
    told.join(", ")
}
