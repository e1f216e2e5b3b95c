//! Who may do what on this server: nodes what their pods need, and everybody what the roles say.
//!
//! The roles and the nodes' graph follow the caches. A question costs look-ups and the rules of the roles
//! that apply; it never walks over objects.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::{Value, json};

use crate::identity::User;
use crate::identity::authorization::{Attributes, Decision, Rbac};
use crate::registry::Registry;

mod node_feed;
mod rbac_feed;

use node_feed::NodeFeed;

/// The authorizers of a server, in the order in which they are asked.
pub struct Authorizer {
    nodes: NodeFeed,
    rbac: RwLock<Rbac>,
}

impl Authorizer {
    /// Knows what is stored now; [`Authorizer::follow`] keeps it current.
    pub fn new(registry: &Registry) -> Self {
        Authorizer { nodes: NodeFeed::new(registry), rbac: RwLock::new(rbac_feed::load(registry)) }
    }

    /// Keeps it current for as long as it is polled.
    pub async fn follow(self: Arc<Self>, registry: Arc<Registry>) {
        futures_util::future::join(rbac_feed::follow(registry, &self.rbac), self.nodes.follow()).await;
    }

    /// What the Node authorizer says; nothing where it is no node that asks.
    pub fn of_node(&self, attributes: &Attributes<'_>) -> Option<Result<(), String>> {
        let node = attributes.user.node_name()?;
        Some(self.nodes.authorize(node, attributes))
    }

    /// What the roles say.
    pub fn by_roles(&self, attributes: &Attributes<'_>) -> Decision {
        self.rbac.read().authorize(attributes)
    }

    /// Whether a component's request may go on. The first authorizer that allows it decides.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let unrelated = match self.of_node(attributes) {
            None => String::new(),
            Some(Ok(())) => return Decision::Allow { reason: String::new() },
            Some(Err(why)) => why,
        };
        match self.by_roles(attributes) {
            Decision::Deny { reason } if !unrelated.is_empty() => {
                let both = [unrelated, reason];
                let reasons = both.iter().filter(|reason| !reason.is_empty());
                let reason = reasons.map(String::as_str).collect::<Vec<_>>().join("\n");
                Decision::Deny { reason }
            }
            decision => decision,
        }
    }

    /// Whether a request is allowed, without saying why.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let node = attributes.user.node_name();
        node.is_some_and(|node| self.nodes.authorize(node, attributes).is_ok())
            || self.rbac.read().allows(attributes)
    }

    /// The status of a `SelfSubjectRulesReview`.
    pub fn rules_review(&self, user: &User, namespace: &str) -> Value {
        let mut review = self.rbac.read().rules_review(user, namespace);
        if user.node_name().is_some() {
            review["incomplete"] = json!(true);
            review["evaluationError"] = json!("node authorizer does not support user rule resolution");
        }
        review
    }

    /// The roles, for checks of what may be granted.
    pub fn with_roles<T>(&self, read: impl FnOnce(&Rbac) -> T) -> T {
        read(&self.rbac.read())
    }
}
