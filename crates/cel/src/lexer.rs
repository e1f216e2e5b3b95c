//! Text to tokens.

use std::sync::Arc;

use crate::source::Issue;

/// A token and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub at: u32,
    pub end: u32,
    pub kind: TokenKind,
}

/// The kinds of tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    /// Operators, brackets, and the words `in`, `true`, `false`, `null`.
    Symbol(&'static str),
    Ident(Arc<str>),
    /// A field name in backquotes.
    Escaped(Arc<str>),
    /// Digits, `0x` form kept; sign is the parser's.
    Int(String),
    Uint(String),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    End,
}

/// Longer ones first.
const SYMBOLS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%", "=",
];

/// Splits a text; the last token is [`TokenKind::End`].
pub fn tokens(text: &str) -> Result<Vec<Token>, Issue> {
    let mut lexer = Lexer { text, at: 0 };
    let mut out = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let kind = lexer.token()?;
        let end = kind == TokenKind::End;
        out.push(Token { at: start as u32, end: lexer.at as u32, kind });
        if end {
            return Ok(out);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn token(&mut self) -> Result<TokenKind, Issue> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(TokenKind::End) };
        if let Some(kind) = self.text_literal()? {
            return Ok(kind);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let word = take_while(rest, |c| c.is_ascii_alphanumeric() || c == '_');
            self.at += word.len();
            return Ok(match word {
                "in" => TokenKind::Symbol("in"),
                "true" => TokenKind::Symbol("true"),
                "false" => TokenKind::Symbol("false"),
                "null" => TokenKind::Symbol("null"),
                word => TokenKind::Ident(word.into()),
            });
        }
        let next_is_digit = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        if first.is_ascii_digit() || (first == '.' && next_is_digit) {
            return self.number();
        }
        if first == '`' {
            let name = take_while(&rest[1..], |c| c.is_ascii_alphanumeric() || "_.-/ ".contains(c));
            if rest[1 + name.len()..].starts_with('`') && !name.is_empty() {
                self.at += name.len() + 2;
                return Ok(TokenKind::Escaped(name.into()));
            }
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| **symbol != "=" && rest.starts_with(**symbol)) {
            self.at += symbol.len();
            return Ok(TokenKind::Symbol(symbol));
        }
        Err(self.unrecognized(self.at))
    }

    fn unrecognized(&self, start: usize) -> Issue {
        let shown: String = self.text[start..].chars().take(1).collect();
        Issue::new(start as u32, format!("Syntax error: token recognition error at: '{shown}'"))
    }

    fn number(&mut self) -> Result<TokenKind, Issue> {
        let rest = self.rest();
        let unsigned = |rest: &str| rest.starts_with(['u', 'U']);
        if let Some(hex) = rest.strip_prefix("0x") {
            let digits = take_while(hex, |c| c.is_ascii_hexdigit());
            if !digits.is_empty() {
                self.at += 2 + digits.len();
                let text = format!("0x{digits}");
                if unsigned(self.rest()) {
                    self.at += 1;
                    return Ok(TokenKind::Uint(text));
                }
                return Ok(TokenKind::Int(text));
            }
        }
        let digit = |c: char| c.is_ascii_digit();
        let whole = take_while(rest, digit);
        let mut length = whole.len();
        let fraction = rest[length..].strip_prefix('.').map_or("", |rest| take_while(rest, digit));
        if !fraction.is_empty() {
            length += 1 + fraction.len();
        }
        let mut float = !fraction.is_empty();
        if let Some(exponent) = rest[length..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let digits = take_while(&exponent[sign..], digit);
            if !digits.is_empty() {
                length += 1 + sign + digits.len();
                float = true;
            }
        }
        let text = &rest[..length];
        let start = self.at;
        self.at += length;
        if float {
            let number: f64 = text.parse().map_err(|_| Issue::new(start as u32, "invalid double literal"))?;
            if number.is_infinite() {
                return Err(Issue::new(start as u32, "invalid double literal"));
            }
            return Ok(TokenKind::Double(number));
        }
        if unsigned(self.rest()) {
            self.at += 1;
            return Ok(TokenKind::Uint(text.to_owned()));
        }
        Ok(TokenKind::Int(text.to_owned()))
    }

    /// A string or bytes, should one start here.
    fn text_literal(&mut self) -> Result<Option<TokenKind>, Issue> {
        let rest = self.rest();
        let prefix = take_while(rest, |c| "rRbB".contains(c));
        let (raw, bytes) = match prefix.to_ascii_lowercase().as_str() {
            "" => (false, false),
            "r" => (true, false),
            "b" => (false, true),
            "br" | "rb" => (true, true),
            _ => return Ok(None),
        };
        let quoted = &rest[prefix.len()..];
        let Some(quote) = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| quoted.starts_with(quote))
        else {
            return Ok(None);
        };
        let start = self.at;
        self.at += prefix.len() + quote.len();
        let mut out = Vec::new();
        loop {
            let rest = self.rest();
            if rest.starts_with(quote) {
                self.at += quote.len();
                break;
            }
            let Some(c) = rest.chars().next() else { return Err(self.unrecognized(start)) };
            match c {
                '\n' | '\r' if quote.len() == 1 => return Err(self.unrecognized(start)),
                '\\' if !raw => self.escape(&mut out, bytes)?,
                c => {
                    self.at += c.len_utf8();
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
        if bytes {
            return Ok(Some(TokenKind::Bytes(out.into())));
        }
        let text = String::from_utf8(out).map_err(|_| self.unrecognized(start))?;
        Ok(Some(TokenKind::String(text.into())))
    }

    fn escape(&mut self, out: &mut Vec<u8>, bytes: bool) -> Result<(), Issue> {
        let start = self.at;
        let bad = || Issue::new(start as u32, "Syntax error: token recognition error at: '\\'");
        let code = self.rest().chars().nth(1).ok_or_else(bad)?;
        self.at += 1 + code.len_utf8();
        let simple = match code {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '"' | '\'' | '\\' | '?' | '`' => code as u8,
            _ => 0,
        };
        if simple != 0 {
            out.push(simple);
            return Ok(());
        }
        let (digits, radix) = match code {
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return Err(bad()),
        };
        let text = self.rest().get(..digits).ok_or_else(bad)?;
        if !text.chars().all(|c| c.is_digit(radix)) {
            return Err(bad());
        }
        let number = u32::from_str_radix(text, radix).map_err(|_| bad())?;
        self.at += digits;
        if bytes {
            out.push(u8::try_from(number).map_err(|_| bad())?);
        } else {
            let c = char::from_u32(number).ok_or_else(bad)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }
}

fn take_while(text: &str, accept: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !accept(c)).unwrap_or(text.len())]
}
