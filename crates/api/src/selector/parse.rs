//! The grammar of label selectors in strings.

use super::{Operator, Requirement, RequirementError, SelectorError};
use crate::names;

/// A word or symbol of a selector. `in` and `notin` are words that only an operator's place makes
/// special.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'a str),
    End,
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Token::Word(text) | Token::Symbol(text) => text,
            Token::End => "",
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

const SPECIAL: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.split();
        self.rest = rest;
        token
    }

    fn peek(&self) -> Token<'a> {
        self.split().0
    }

    fn split(&self) -> (Token<'a>, &'a str) {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = text.chars().next() else { return (Token::End, text) };
        if SPECIAL.contains(&first) {
            let len = if text.starts_with("==") || text.starts_with("!=") { 2 } else { 1 };
            return (Token::Symbol(&text[..len]), &text[len..]);
        }
        let is_end = |c: char| SPECIAL.contains(&c) || " \t\r\n".contains(c);
        let end = text.find(is_end).unwrap_or(text.len());
        (Token::Word(&text[..end]), &text[end..])
    }
}

/// Reads all requirements, in the order of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut tokens = Tokens { rest: text };
    let mut requirements = Vec::new();
    loop {
        match tokens.peek() {
            Token::End => return Ok(requirements),
            Token::Word(_) | Token::Symbol("!") => {}
            Token::Symbol(found) => return Err(SelectorError::Start(found.to_owned())),
        }
        requirements.push(requirement(&mut tokens).map_err(SelectorError::Requirement)?);
        match tokens.next() {
            Token::End => return Ok(requirements),
            Token::Symbol(",") => {}
            other => return Err(SelectorError::AfterRequirement(other.text().to_owned())),
        }
        match tokens.peek() {
            Token::Word(_) | Token::Symbol("!") => {}
            other => return Err(SelectorError::AfterComma(other.text().to_owned())),
        }
    }
}

fn found(token: Token<'_>, expected: &'static str) -> RequirementError {
    RequirementError::Found { found: token.text().to_owned(), expected }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, RequirementError> {
    let negated = tokens.peek() == Token::Symbol("!");
    if negated {
        tokens.next();
    }
    let key = match tokens.next() {
        Token::Word(key) => key,
        other => return Err(found(other, "identifier")),
    };
    let faults = names::qualified_name(key);
    if !faults.is_empty() {
        // The path of a selector in a query string is none, which is printed so.
        let (field, value) = ("<nil>".to_owned(), format!("{key:?}"));
        return Err(RequirementError::Invalid { field, value, fault: faults.join("; ") });
    }
    if negated {
        return Requirement::new(key, Operator::DoesNotExist, Vec::new());
    }
    if matches!(tokens.peek(), Token::End | Token::Symbol(",")) {
        return Requirement::new(key, Operator::Exists, Vec::new());
    }
    let operator = match tokens.next() {
        Token::Word("in") => Operator::In,
        Token::Word("notin") => Operator::NotIn,
        Token::Symbol("=") => Operator::Equals,
        Token::Symbol("==") => Operator::DoubleEquals,
        Token::Symbol("!=") => Operator::NotEquals,
        Token::Symbol(">") => Operator::GreaterThan,
        Token::Symbol("<") => Operator::LessThan,
        other => return Err(found(other, "in, notin, =, ==, !=, gt, lt")),
    };
    let values = match operator {
        Operator::In | Operator::NotIn => set(tokens)?,
        Operator::Equals
        | Operator::DoubleEquals
        | Operator::NotEquals
        | Operator::GreaterThan
        | Operator::LessThan => {
            vec![exact(tokens)?]
        }
        Operator::Exists | Operator::DoesNotExist => Vec::new(),
    };
    Requirement::new(key, operator, values)
}

/// The one value behind `=`; none is the empty value.
fn exact(tokens: &mut Tokens<'_>) -> Result<String, RequirementError> {
    if matches!(tokens.peek(), Token::End | Token::Symbol(",")) {
        return Ok(String::new());
    }
    match tokens.next() {
        Token::Word(value) => Ok(value.to_owned()),
        other => Err(found(other, "identifier")),
    }
}

/// `(x,y)`: a missing value between, before or behind commas is the empty value.
fn set(tokens: &mut Tokens<'_>) -> Result<Vec<String>, RequirementError> {
    match tokens.next() {
        Token::Symbol("(") => {}
        other => return Err(RequirementError::NoParenthesis(other.text().to_owned())),
    }
    let mut values = Vec::new();
    loop {
        let mut value = "";
        if let Token::Word(word) = tokens.peek() {
            value = word;
            tokens.next();
        }
        values.push(value.to_owned());
        match tokens.next() {
            Token::Symbol(",") => {}
            Token::Symbol(")") => return Ok(values),
            other if value.is_empty() => return Err(found(other, "',', ')' or identifier")),
            other => return Err(found(other, "',' or ')'")),
        }
    }
}
