//! Which devices may be used, as a list of rules in which the last that matches decides.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// Kinds of access: to make a node, to read, to write.
pub const MKNOD: u8 = 1;
pub const READ: u8 = 2;
pub const WRITE: u8 = 4;
pub const ALL: u8 = MKNOD | READ | WRITE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Any,
    Character,
    Block,
}

/// One rule; `None` stands for every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub allow: bool,
    pub kind: Kind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u8,
}

/// What every container may use: any node may be made, which gives no access, and the devices that
/// the runtime puts into `/dev` may be opened.
const DEFAULTS: [(Kind, Option<u32>, Option<u32>, u8); 10] = [
    (Kind::Character, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Character, Some(1), Some(3), ALL),
    (Kind::Character, Some(1), Some(5), ALL),
    (Kind::Character, Some(1), Some(7), ALL),
    (Kind::Character, Some(1), Some(8), ALL),
    (Kind::Character, Some(1), Some(9), ALL),
    (Kind::Character, Some(5), Some(0), ALL),
    (Kind::Character, Some(5), Some(2), ALL),
    (Kind::Character, Some(136), None, ALL),
];

const NOTHING: Rule = Rule { allow: false, kind: Kind::Any, major: None, minor: None, access: ALL };

/// The rules of a spec between a start from nothing and what every container may use.
pub fn rules(given: &[LinuxDeviceCgroup]) -> Vec<Rule> {
    let mut all: Vec<Rule> = vec![NOTHING];
    all.extend(given.iter().map(rule));
    let defaults =
        DEFAULTS.map(|(kind, major, minor, access)| Rule { allow: true, kind, major, minor, access });
    all.extend(defaults);
    // What stands before a rule about everything does not matter.
    let last = all.iter().rposition(|rule| rule.kind == Kind::Any && rule.access == ALL).unwrap_or(0);
    all.drain(..last);
    if all[0].allow {
        // Everything is allowed, so that allowing more says nothing.
        let mut first = true;
        all.retain(|rule| !rule.allow || std::mem::take(&mut first));
    }
    all.dedup();
    all
}

fn rule(given: &LinuxDeviceCgroup) -> Rule {
    let kind = match given.typ() {
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Kind::Character,
        Some(LinuxDeviceType::B) => Kind::Block,
        Some(LinuxDeviceType::A | LinuxDeviceType::P) | None => Kind::Any,
    };
    // The specification's -1 is every number too.
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let letters = given.access().as_deref().unwrap_or("rwm");
    let access = letters.chars().fold(0, |access, letter| {
        access
            | match letter {
                'm' => MKNOD,
                'r' => READ,
                'w' => WRITE,
                _ => 0,
            }
    });
    Rule { allow: given.allow(), kind, major: number(given.major()), minor: number(given.minor()), access }
}

/// A rule in the words of version 1.
pub fn text(rule: &Rule) -> String {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let kind = match rule.kind {
        // Alone it resets the list, which is what a rule about everything means.
        Kind::Any if rule.access == ALL && rule.major.is_none() && rule.minor.is_none() => {
            return "a".to_owned();
        }
        Kind::Any => 'a',
        Kind::Character => 'c',
        Kind::Block => 'b',
    };
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let access: String =
        letters.into_iter().filter(|(bit, _)| rule.access & bit != 0).map(|(_, letter)| letter).collect();
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(
        allow: bool,
        typ: &str,
        major: Option<i64>,
        minor: Option<i64>,
        access: &str,
    ) -> LinuxDeviceCgroup {
        let json = serde_json::json!({
            "allow": allow, "type": typ, "major": major, "minor": minor, "access": access,
        });
        serde_json::from_value(json).expect("is a rule")
    }

    #[test]
    fn the_last_rule_about_everything_is_where_a_list_starts() {
        let check = |given: &[LinuxDeviceCgroup], first: &[&str]| {
            let rules = rules(given);
            let texts: Vec<String> = rules
                .iter()
                .map(|rule| format!("{}{}", if rule.allow { '+' } else { '-' }, text(rule)))
                .collect();
            assert_eq!(texts[..first.len()], *first, "{given:?}");
            texts.len()
        };
        let open = given(true, "a", None, None, "rwm");
        let fuse = given(true, "c", Some(10), Some(229), "rw");
        let no_sda = given(false, "b", Some(8), Some(-1), "w");
        assert_eq!(check(&[], &["-a", "+c *:* m", "+b *:* m", "+c 1:3 rwm"]), 11);
        check(std::slice::from_ref(&fuse), &["-a", "+c 10:229 rw", "+c *:* m"]);
        assert_eq!(check(&[fuse.clone(), open.clone()], &["+a"]), 1);
        assert_eq!(check(&[open, no_sda], &["+a", "-b 8:* w"]), 2);
    }

    #[test]
    fn nobody_opens_the_machine_s_memory() {
        let all = rules(&[given(false, "a", None, None, "rwm")]);
        let decide = |kind: Kind, major: u32, minor: u32, access: u8| {
            let matches = |rule: &&Rule| {
                (rule.kind == Kind::Any || rule.kind == kind)
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
                    && access & !rule.access == 0
            };
            all.iter().rev().find(matches).is_some_and(|rule| rule.allow)
        };
        assert!(!decide(Kind::Character, 1, 1, READ));
        assert!(decide(Kind::Character, 1, 1, MKNOD));
        assert!(decide(Kind::Character, 1, 3, READ | WRITE));
        assert!(!decide(Kind::Block, 8, 0, READ));
    }
}
