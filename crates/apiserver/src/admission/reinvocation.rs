//! Which of the outside mutators of a request are to look again.
//!
//! When one of them changed the object, everything that ran before may have to see it: the plugins of
//! this process always, policies and webhooks where their `reinvocationPolicy` says so. That happens once,
//! for policies and webhooks together.

use serde_json::Value;

/// One kind of mutators over the rounds of a request; `K` tells them apart.
pub struct Reinvocation<K> {
    round: usize,
    /// Those that ran and want to see later changes.
    ran: Vec<K>,
    /// Those that are to run again.
    again: Vec<K>,
    changed: bool,
    /// The object after the first round.
    output: Option<Value>,
}

impl<K> Default for Reinvocation<K> {
    fn default() -> Self {
        Reinvocation { round: 0, ran: Vec::new(), again: Vec::new(), changed: false, output: None }
    }
}

impl<K: PartialEq> Reinvocation<K> {
    /// From 0.
    pub fn round(&self) -> usize {
        self.round
    }

    /// Begins a round: what others changed meanwhile, those that ran want to see.
    pub fn begin(&mut self, object: Option<&Value>) {
        if self.round > 0 && object != self.output.as_ref() {
            self.again.append(&mut self.ran);
        }
    }

    /// Whether a mutator that the request concerns runs in this round.
    pub fn runs(&self, mutator: &K) -> bool {
        self.round == 0 || self.again.contains(mutator)
    }

    /// Notes that a mutator ran: `changed` when the object is another now, `repeats` when it wants to see
    /// what others change after it.
    pub fn ran(&mut self, mutator: K, changed: bool, repeats: bool) {
        if changed {
            self.changed = true;
            self.again.append(&mut self.ran);
        }
        if repeats {
            self.ran.push(mutator);
        }
    }

    /// Ends a round with the object that it made.
    pub fn end(&mut self, object: Option<&Value>) {
        self.round += 1;
        self.output = object.filter(|_| !self.ran.is_empty()).cloned();
    }

    /// Whether the first round is over and changed something.
    pub fn wants_another_round(&self) -> bool {
        self.round == 1 && self.changed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn those_that_want_to_see_later_changes_run_again_once() {
        let mut mutators = Reinvocation::default();
        let (before, after) = (json!(1), json!(2));
        mutators.begin(Some(&before));
        assert!(mutators.runs(&"a") && mutators.runs(&"b"));
        mutators.ran("a", false, true);
        mutators.ran("b", true, true);
        mutators.ran("c", false, false);
        mutators.end(Some(&after));
        assert!(mutators.wants_another_round());
        mutators.begin(Some(&after));
        assert!(mutators.runs(&"a"), "b changed what it saw");
        assert!(!mutators.runs(&"b"), "nobody changed what it made");
        assert!(!mutators.runs(&"c"), "it does not want to know");
        mutators.end(Some(&after));
        assert!(!mutators.wants_another_round(), "there are two rounds");
    }

    #[test]
    fn changes_by_others_between_the_rounds_are_seen() {
        let mut mutators = Reinvocation::default();
        mutators.begin(Some(&json!(1)));
        mutators.ran("a", false, true);
        mutators.end(Some(&json!(1)));
        assert!(!mutators.wants_another_round());
        mutators.begin(Some(&json!(2)));
        assert!(mutators.runs(&"a"));
    }
}
