//! Who is asked whether a request from outside may go on, in the order that is configured.
//!
//! Components of this process are not in question here: they are held to their roles, whatever is configured
//! for others, since a webhook that is down must not stop the cluster.

use std::sync::Arc;

use parking_lot::RwLock;
use sampan_api::Status;

use crate::ApiServer;
use crate::identity::MASTERS_GROUP;
use crate::identity::authorization::configuration::{self, ConfigurationError, Step};
use crate::identity::authorization::webhook::Opinion;
use crate::identity::authorization::{Attributes, Decision};
use crate::reload::Followed;

/// The configured order; replaced when its file changes.
pub struct Authorizers {
    steps: RwLock<Arc<[Step]>>,
}

impl Default for Authorizers {
    fn default() -> Self {
        Authorizers::new(vec![Step::Node, Step::Rbac])
    }
}

impl Authorizers {
    pub fn new(steps: Vec<Step>) -> Self {
        Authorizers { steps: RwLock::new(steps.into()) }
    }
}

impl ApiServer {
    /// What is decided about a request. Whoever allows or denies it first has the last word; reasons of those
    /// who do not decide are kept.
    pub async fn decide_request(&self, attributes: &Attributes<'_>) -> Opinion {
        if attributes.user.is_in(MASTERS_GROUP) {
            return Opinion::Allow(String::new());
        }
        let steps = self.authorizers.steps.read().clone();
        let mut reasons = Vec::new();
        for step in steps.iter() {
            let opinion = match step {
                Step::AlwaysAllow => Opinion::Allow(String::new()),
                Step::AlwaysDeny => Opinion::None("Everything is forbidden.".to_owned()),
                Step::Node => match self.authorizer.of_node(attributes) {
                    None => Opinion::None(String::new()),
                    Some(Ok(())) => Opinion::Allow(String::new()),
                    Some(Err(reason)) => Opinion::None(reason),
                },
                Step::Rbac => match self.authorizer.by_roles(attributes) {
                    Decision::Allow { reason } => Opinion::Allow(reason),
                    Decision::Deny { reason } => Opinion::None(reason),
                },
                Step::Webhook(webhook) => webhook.decide(attributes).await,
            };
            match opinion {
                Opinion::Allow(reason) => return Opinion::Allow(reason),
                Opinion::Deny(reason) => return Opinion::Deny(reason),
                Opinion::None(reason) if reason.is_empty() => {}
                Opinion::None(reason) => reasons.push(reason),
            }
        }
        Opinion::None(reasons.join("\n"))
    }

    /// Refuses a request that is not allowed, in Kubernetes' words.
    pub async fn authorize_request(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        match self.decide_request(attributes).await {
            Opinion::Allow(_) => Ok(()),
            Opinion::Deny(reason) | Opinion::None(reason) => Err(attributes.forbidden(&reason)),
        }
    }

    /// Reads the authorization configuration again when it changes, for as long as it is polled.
    pub async fn follow_authorization(self: Arc<Self>, file: Followed) {
        file.follow(|text| {
            let steps = configuration::read(text)?;
            *self.authorizers.steps.write() = steps.into();
            Ok::<_, ConfigurationError>(())
        })
        .await;
    }
}
