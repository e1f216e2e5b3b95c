//! Expansion of `$(VAR)` references, as `command`, `args`, `env` and `subPathExpr` have it.
//!
//! `$$` stands for `$`; a reference that `lookup` does not know stays as it was written.

/// Replaces the references in `text`.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|body| body.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The names that `text` refers to and that `known` does not have, in the order of appearance.
pub fn unresolved(text: &str, known: impl Fn(&str) -> bool) -> Vec<String> {
    let missing = std::cell::RefCell::new(Vec::new());
    expand(text, |name| {
        if !known(name) {
            missing.borrow_mut().push(name.to_owned());
        }
        Some(String::new())
    });
    missing.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_upstream_does() {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "B" => Some("$(A)".to_owned()),
            "" => Some("empty".to_owned()),
            _ => None,
        };
        let check = |text: &str, expected: &str| assert_eq!(expand(text, lookup), expected, "{text}");
        check("$(A)", "a");
        check("x$(A)y$(A)", "xaya");
        check("$(B)", "$(A)");
        check("$(NO)", "$(NO)");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$a");
        check("$$$$(A)", "$$(A)");
        check("$(A", "$(A");
        check("$A", "$A");
        check("a$", "a$");
        check("$()", "empty");
        check("", "");
        check("é$(A)é", "éaé");
    }

    #[test]
    fn names_what_is_missing() {
        assert_eq!(unresolved("$(A)$(B)$$(C)", |name| name == "A"), ["B"]);
    }

    proptest::proptest! {
        #[test]
        fn text_without_references_is_unchanged(text in "[^$]*") {
            proptest::prop_assert_eq!(expand(&text, |_| None), text);
        }
    }
}
