//! Tokens to expressions: operator precedence, postfix chains, and macros expanded as they are met.

use std::sync::Arc;

use crate::ast::{Element, Entry, Expr, Kind, Literal, MAX_DEPTH, StructField};
use crate::lexer::{Token, TokenKind, tokens};
use crate::source::Issue;

mod macros;

/// Longest expression, in code points.
const MAX_CODE_POINTS: usize = 100_000;

/// Deepest brackets, conditionals and arguments: parsing takes more stack per level than what follows.
const MAX_NESTING: u16 = 100;

const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
/// Words that the grammar reads as literals and operators.
const KEYWORDS: [&str; 4] = ["true", "false", "null", "in"];

/// Whether a word cannot name anything in an expression, though it looks like a name.
pub fn is_reserved(word: &str) -> bool {
    KEYWORDS.contains(&word) || RESERVED.contains(&word)
}

const PRIMARY: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// An expression and how many nodes it has.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub expr: Expr,
    pub nodes: u32,
}

/// Parses a whole text.
pub fn parse(text: &str) -> Result<Parsed, Issue> {
    let size = text.chars().count();
    if size > MAX_CODE_POINTS {
        return Err(Issue::new(
            0,
            format!("expression code point size exceeds limit: size: {size}, limit {MAX_CODE_POINTS}"),
        ));
    }
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, next: 0, nesting: 0 };
    let expr = parser.expression()?;
    if parser.peek().kind != TokenKind::End {
        return Err(parser.unexpected("extraneous input", "<EOF>"));
    }
    Ok(Parsed { expr, nodes: parser.next })
}

type Parse<T> = Result<T, Issue>;

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    next: u32,
    nesting: u16,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(&self.peek().kind, TokenKind::Symbol(found) if *found == symbol)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    /// Takes a symbol, should it be next, and answers where it was.
    fn accept(&mut self, symbol: &str) -> Option<u32> {
        self.is(symbol).then(|| self.take().at)
    }

    fn expect(&mut self, symbol: &str) -> Parse<u32> {
        self.accept(symbol).ok_or_else(|| self.unexpected("mismatched input", &format!("'{symbol}'")))
    }

    fn unexpected(&self, what: &str, wanted: &str) -> Issue {
        let token = self.peek();
        let shown = match token.kind {
            TokenKind::End => "<EOF>",
            _ => self.text.get(token.at as usize..token.end as usize).unwrap_or_default(),
        };
        Issue::new(token.at, format!("Syntax error: {what} '{shown}' expecting {wanted}"))
    }

    fn node(&mut self, at: u32, kind: Kind) -> Parse<Expr> {
        let depth = kind.depth() + 1;
        if depth > MAX_DEPTH {
            return Err(Issue::new(at, format!("expression recursion limit exceeded: {MAX_DEPTH}")));
        }
        let id = self.next;
        self.next += 1;
        Ok(Expr { id, at, depth, kind })
    }

    fn call(&mut self, at: u32, function: &str, args: Vec<Expr>) -> Parse<Expr> {
        self.node(at, Kind::Call { function: function.into(), target: None, args })
    }

    fn expression(&mut self) -> Parse<Expr> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            let at = self.peek().at;
            return Err(Issue::new(at, format!("expression recursion limit exceeded: {MAX_NESTING}")));
        }
        let condition = self.logical("||", "_||_")?;
        let parsed = match self.accept("?") {
            None => condition,
            Some(at) => {
                let yes = self.logical("||", "_||_")?;
                self.expect(":")?;
                let no = self.expression()?;
                self.call(at, "_?_:_", vec![condition, yes, no])?
            }
        };
        self.nesting -= 1;
        Ok(parsed)
    }

    fn logical(&mut self, symbol: &str, function: &str) -> Parse<Expr> {
        let mut operands = vec![self.below_logical(symbol)?];
        let mut at = 0;
        while let Some(found) = self.accept(symbol) {
            at = if operands.len() == 1 { found } else { at };
            operands.push(self.below_logical(symbol)?);
        }
        if operands.len() == 1 {
            return Ok(operands.remove(0));
        }
        self.call(at, function, operands)
    }

    fn below_logical(&mut self, symbol: &str) -> Parse<Expr> {
        if symbol == "||" { self.logical("&&", "_&&_") } else { self.binary(0) }
    }

    /// Relations, sums, products, by precedence.
    fn binary(&mut self, least: u8) -> Parse<Expr> {
        let mut left = self.unary()?;
        while let TokenKind::Symbol(symbol) = self.peek().kind {
            let Some((function, precedence)) = operator(symbol) else { break };
            if precedence < least {
                break;
            }
            let at = self.take().at;
            let right = self.binary(precedence + 1)?;
            left = self.call(at, function, vec![left, right])?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parse<Expr> {
        for (symbol, function) in [("!", "!_"), ("-", "-_")] {
            let Some(at) = self.accept(symbol) else { continue };
            let mut count = 1;
            while self.accept(symbol).is_some() {
                count += 1;
            }
            let literal = matches!(self.peek().kind, TokenKind::Int(_) | TokenKind::Double(_));
            if symbol == "-" && count == 1 && literal {
                let negative = self.number(at, true)?;
                return self.member(negative);
            }
            let start = self.primary()?;
            let operand = self.member(start)?;
            return if count % 2 == 0 { Ok(operand) } else { self.call(at, function, vec![operand]) };
        }
        let start = self.primary()?;
        self.member(start)
    }

    fn number(&mut self, at: u32, negative: bool) -> Parse<Expr> {
        let literal = match self.take().kind {
            TokenKind::Int(text) => {
                let number = integer(&text).and_then(|number| {
                    let number = if negative { -number } else { number };
                    i64::try_from(number).ok()
                });
                Literal::Int(number.ok_or_else(|| Issue::new(at, "invalid int literal"))?)
            }
            TokenKind::Uint(text) => {
                let number = integer(&text).and_then(|number| u64::try_from(number).ok());
                Literal::Uint(number.ok_or_else(|| Issue::new(at, "invalid uint literal"))?)
            }
            TokenKind::Double(number) => Literal::Double(if negative { -number } else { number }),
            _ => return Err(Issue::new(at, "invalid int literal")),
        };
        self.node(at, Kind::Literal(literal))
    }

    /// What follows a primary: fields, calls, indices.
    fn member(&mut self, mut expr: Expr) -> Parse<Expr> {
        loop {
            if let Some(at) = self.accept(".") {
                let optional = self.accept("?").is_some();
                let field = match self.take_if_name() {
                    Some(field) => field,
                    None => return Err(self.unexpected("mismatched input", "IDENTIFIER")),
                };
                if optional {
                    let name = self.node(at, Kind::Literal(Literal::String(field)))?;
                    expr = self.call(at, "_?._", vec![expr, name])?;
                } else if let Some(at) = self.accept("(") {
                    let args = self.list_until(")")?;
                    expr = self.member_call(at, expr, field, args)?;
                } else {
                    expr = self.node(at, Kind::Select { operand: Box::new(expr), field, test: false })?;
                }
            } else if let Some(at) = self.accept("[") {
                let function = if self.accept("?").is_some() { "_[?_]" } else { "_[_]" };
                let index = self.expression()?;
                self.expect("]")?;
                expr = self.call(at, function, vec![expr, index])?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn take_if_name(&mut self) -> Option<Arc<str>> {
        let (TokenKind::Ident(name) | TokenKind::Escaped(name)) = &self.peek().kind else { return None };
        let name = name.clone();
        self.at += 1;
        Some(name)
    }

    fn list_until(&mut self, end: &str) -> Parse<Vec<Expr>> {
        let mut out = Vec::new();
        if self.accept(end).is_some() {
            return Ok(out);
        }
        loop {
            out.push(self.expression()?);
            if self.accept(",").is_none() {
                self.expect(end)?;
                return Ok(out);
            }
        }
    }

    fn primary(&mut self) -> Parse<Expr> {
        let token = self.peek().clone();
        match token.kind {
            TokenKind::Symbol("(") => {
                self.at += 1;
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            TokenKind::Symbol("[") => self.list(),
            TokenKind::Symbol("{") => self.map(),
            TokenKind::Symbol(word @ ("true" | "false")) => {
                self.at += 1;
                self.node(token.at, Kind::Literal(Literal::Bool(word == "true")))
            }
            TokenKind::Symbol("null") => {
                self.at += 1;
                self.node(token.at, Kind::Literal(Literal::Null))
            }
            TokenKind::Symbol(".") => {
                self.at += 1;
                match self.peek().kind.clone() {
                    TokenKind::Ident(name) => self.name(token.at, name),
                    _ => Err(self.unexpected("mismatched input", "IDENTIFIER")),
                }
            }
            TokenKind::Ident(name) => self.name(token.at, name),
            TokenKind::Int(_) | TokenKind::Uint(_) | TokenKind::Double(_) => self.number(token.at, false),
            TokenKind::String(text) => {
                self.at += 1;
                self.node(token.at, Kind::Literal(Literal::String(text)))
            }
            TokenKind::Bytes(bytes) => {
                self.at += 1;
                self.node(token.at, Kind::Literal(Literal::Bytes(bytes)))
            }
            TokenKind::Symbol(_) | TokenKind::Escaped(_) | TokenKind::End => {
                Err(self.unexpected("mismatched input", PRIMARY))
            }
        }
    }

    /// A variable, a global call, or the name of a structure that is made.
    fn name(&mut self, at: u32, name: Arc<str>) -> Parse<Expr> {
        self.at += 1;
        if let Some(made) = self.structure(at, &name)? {
            return Ok(made);
        }
        if RESERVED.contains(&name.as_ref()) {
            return Err(Issue::new(at, format!("reserved identifier: {name}")));
        }
        match self.accept("(") {
            None => self.node(at, Kind::Ident(name)),
            Some(open) => {
                let args = self.list_until(")")?;
                self.global_call(open, name, args)
            }
        }
    }

    /// `A.b.c{…}`, looked ahead for.
    fn structure(&mut self, at: u32, first: &str) -> Parse<Option<Expr>> {
        let mut end = self.at;
        let mut name = first.to_owned();
        while let [
            Token { kind: TokenKind::Symbol("."), .. },
            Token { kind: TokenKind::Ident(next), .. },
            ..,
        ] = &self.tokens[end.min(self.tokens.len())..]
        {
            name.push('.');
            name.push_str(next);
            end += 2;
        }
        if !matches!(self.tokens.get(end), Some(Token { kind: TokenKind::Symbol("{"), .. })) {
            return Ok(None);
        }
        self.at = end + 1;
        let mut fields = Vec::new();
        while self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            let place = self.peek().at;
            let Some(name) = self.take_if_name() else {
                return Err(self.unexpected("mismatched input", "IDENTIFIER"));
            };
            self.expect(":")?;
            let value = self.expression()?;
            fields.push(StructField { name, at: place, value, optional });
            if self.accept(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Kind::Struct { name: name.into(), fields }).map(Some)
    }

    fn list(&mut self) -> Parse<Expr> {
        let at = self.take().at;
        let mut elements = Vec::new();
        while self.accept("]").is_none() {
            let optional = self.accept("?").is_some();
            elements.push(Element { value: self.expression()?, optional });
            if self.accept(",").is_none() {
                self.expect("]")?;
                break;
            }
        }
        self.node(at, Kind::List(elements))
    }

    fn map(&mut self) -> Parse<Expr> {
        let at = self.take().at;
        let mut entries = Vec::new();
        while self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            let key = self.expression()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expression()?, optional });
            if self.accept(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Kind::Map(entries))
    }
}

fn operator(symbol: &str) -> Option<(&'static str, u8)> {
    Some(match symbol {
        "<" => ("_<_", 0),
        "<=" => ("_<=_", 0),
        ">" => ("_>_", 0),
        ">=" => ("_>=_", 0),
        "==" => ("_==_", 0),
        "!=" => ("_!=_", 0),
        "in" => ("@in", 0),
        "+" => ("_+_", 1),
        "-" => ("_-_", 1),
        "*" => ("_*_", 2),
        "/" => ("_/_", 2),
        "%" => ("_%_", 2),
        _ => return None,
    })
}

fn integer(text: &str) -> Option<i128> {
    match text.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
