//! Regular expressions of schemas: Go's syntax and meaning, on the `regex` crate.
//!
//! Both engines run in linear time. What differs is translated: Go's `\d`, `\w`, `\s` and `\b` are
//! ASCII, and inside of brackets `[`, `&` and `~` mean themselves.

use regex::{Error, Regex, RegexBuilder};

/// The most bytes that one compiled pattern may take.
const SIZE_LIMIT: usize = 1 << 20;

/// Compiles a pattern as Kubernetes understands it.
pub fn compile(pattern: &str) -> Result<Regex, Error> {
    RegexBuilder::new(&translate(pattern)).size_limit(SIZE_LIMIT).build()
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    let (mut in_class, mut class_is_new) = (false, false);
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                class_is_new = false;
                let Some(escaped) = chars.next() else {
                    out.push('\\');
                    break;
                };
                escape(escaped, in_class, &mut out);
                continue;
            }
            '[' if !in_class => {
                out.push('[');
                (in_class, class_is_new) = (true, true);
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
                continue;
            }
            '[' if chars.peek() == Some(&':') => {
                // A named class as `[:alpha:]`, up to its end.
                out.push('[');
                for inner in chars.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            ']' if in_class && class_is_new => out.push_str("\\]"),
            ']' if in_class => {
                out.push(']');
                in_class = false;
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
        class_is_new = false;
    }
    out
}

fn escape(c: char, in_class: bool, out: &mut String) {
    let text = match (c, in_class) {
        ('d', false) => "[0-9]",
        ('d', true) => "0-9",
        ('D', _) => "[^0-9]",
        ('w', false) => "[0-9A-Za-z_]",
        ('w', true) => "0-9A-Za-z_",
        ('W', _) => "[^0-9A-Za-z_]",
        ('s', false) => "[\\t\\n\\f\\r ]",
        ('s', true) => "\\t\\n\\f\\r ",
        ('S', _) => "[^\\t\\n\\f\\r ]",
        ('b', false) => "(?-u:\\b)",
        ('Z', false) => "\\z",
        (c, _) => {
            out.push('\\');
            out.push(c);
            return;
        }
    };
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        let check = |pattern: &str, text: &str, matches: bool| {
            let regex = compile(pattern).expect("a pattern");
            assert_eq!(regex.is_match(text), matches, "{pattern} {text}");
        };
        check(r"^\d+$", "12", true);
        check(r"^\d+$", "१२", false);
        check(r"^[\w.]+$", "a_b.c", true);
        check(r"^[\w.]+$", "ä", false);
        check(r"^[[a]+$", "[a", true);
        check(r"^[]a]+$", "]a", true);
        check(r"^[^]a]+$", "b", true);
        check(r"^[a&&b]+$", "&", true);
        check(r"^[[:alpha:]]+$", "abc", true);
        check(r"^.{2}$", "äö", true);
        check(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "my-name", true);
        assert!(compile("(").is_err());
        assert!(compile("(a{1000}){1000}").is_err(), "a pattern that takes too much memory");
    }
}
