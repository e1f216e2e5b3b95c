//! The keys that a YAML document gives twice in one map, with their lines.
//!
//! The decoder of documents takes the last value, as the default of Kubernetes' is; this is what strict
//! validation has to say about it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The most keys that are named.
const MOST: usize = 10;
const MARK: &str = "already set in map";

/// A line for each key that is given again, as Kubernetes' YAML library words it.
pub(super) fn repeated_keys(document: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < MOST {
        // A visitor learns a line only from the error that it makes: one pass for each.
        let mut passed = found.len();
        let walk = Walk { passed: &mut passed };
        let Err(error) = walk.deserialize(yaml_serde::Deserializer::from_slice(document)) else { break };
        let text = error.to_string();
        let (Some(start), Some(end)) = (text.find("key \""), text.find(MARK)) else { break };
        let line = error.location().map_or(0, |location| location.line());
        found.push(format!("line {line}: {}", &text[start..end + MARK.len()]));
    }
    found
}

/// Walks a value, lets so many repeated keys pass, and ends with an error at the next.
struct Walk<'a> {
    passed: &'a mut usize,
}

/// Takes a key, which must be new unless it is let pass.
struct Key<'a> {
    seen: &'a mut HashSet<String>,
    passed: &'a mut usize,
}

impl Key<'_> {
    fn take<E: de::Error>(self, key: String) -> Result<(), E> {
        if self.seen.contains(&key) {
            if *self.passed == 0 {
                return Err(E::custom(format!("key {key:?} {MARK}")));
            }
            *self.passed -= 1;
        }
        self.seen.insert(key);
        Ok(())
    }
}

macro_rules! scalars {
    ($self:ident, $value:ident, $then:expr) => {
        fn visit_bool<E: de::Error>($self, $value: bool) -> Result<(), E> { $then }
        fn visit_i64<E: de::Error>($self, $value: i64) -> Result<(), E> { $then }
        fn visit_u64<E: de::Error>($self, $value: u64) -> Result<(), E> { $then }
        fn visit_f64<E: de::Error>($self, $value: f64) -> Result<(), E> { $then }
        fn visit_str<E: de::Error>($self, $value: &str) -> Result<(), E> { $then }
    };
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.take("null".to_owned())
    }

    scalars!(self, value, self.take(value.to_string()));
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    scalars!(self, _value, Ok(()));

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Walk { passed: &mut *self.passed })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while entries.next_key_seed(Key { seen: &mut seen, passed: &mut *self.passed })?.is_some() {
            entries.next_value_seed(Walk { passed: &mut *self.passed })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_with_their_lines() {
        let check = |document: &str, expected: &[&str]| {
            assert_eq!(repeated_keys(document.as_bytes()), expected, "{document}");
        };
        check("a: 1\nb:\n- a: 2\n- a: 3\n", &[]);
        check("\nspec:\n  foo: 1\n  bar: x\n  foo: 2\n", &["line 5: key \"foo\" already set in map"]);
        check(
            "a: 1\nb: {c: 1, c: 2}\n1: x\n1: y\na: 2\n",
            &[
                "line 2: key \"c\" already set in map",
                "line 4: key \"1\" already set in map",
                "line 5: key \"a\" already set in map",
            ],
        );
        check("{\"a\": 1,\n \"a\": 2}", &["line 2: key \"a\" already set in map"]);
        check("a: [", &[]);
        assert_eq!(repeated_keys("k: 1\n".repeat(30).as_bytes()).len(), MOST);
    }
}
