//! Bringing a plan into the kernel.

use super::plan::{Plan, UdpFrontends};
use crate::conntrack::{self, ConntrackError};
use crate::nft::{self, NftError, Sent};

/// The rules of services as the kernel has them. One per node; it remembers what it sent.
#[derive(Debug, Default)]
pub struct ServiceRules {
    applied: Option<Plan>,
}

/// What an [`ServiceRules::apply`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whether the whole table was replaced.
    pub replaced: bool,
    pub messages: usize,
    pub bytes: usize,
    /// UDP flows to endpoints that are gone, which connection tracking has forgotten now.
    pub flows_forgotten: usize,
}

/// Why rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("cannot replace the rules of services")]
    Rules(#[from] NftError),
    /// The rules are in force; flows of endpoints that are gone may go on.
    #[error("cannot forget flows to endpoints that are gone")]
    Flows(#[from] ConntrackError),
}

impl ServiceRules {
    /// Nothing is known of the kernel's rules: the first plan replaces them.
    pub fn new() -> Self {
        ServiceRules::default()
    }

    /// Makes the next plan replace everything, for when something else may have changed the rules.
    pub fn forget(&mut self) {
        self.applied = None;
    }

    /// Brings a plan into force in one transaction: the differences to the plan before, or
    /// everything when there was none or the kernel has something else than we think. Connections
    /// that exist keep their endpoints; UDP flows to endpoints that are gone are forgotten.
    ///
    /// After an error the next call replaces everything. A process that takes over running pods
    /// must know all services before its first call: what the plan lacks is gone.
    pub fn apply(&mut self, plan: Plan) -> Result<Applied, ApplyError> {
        let before = self.applied.take();
        let (replaced, sent) = match self.send_difference(before.as_ref(), &plan) {
            Some(sent) => (false, sent),
            None => (true, nft::replace(&plan.ruleset)?),
        };
        let no_flows = UdpFrontends::new();
        let known = before.as_ref().map_or(&no_flows, |before| &before.udp);
        let flows_forgotten = if known == &plan.udp { 0 } else { conntrack::forget_stale(known, &plan.udp)? };
        self.applied = Some(plan);
        Ok(Applied { replaced, messages: sent.messages, bytes: sent.bytes, flows_forgotten })
    }

    /// None when that is not possible.
    fn send_difference(&self, before: Option<&Plan>, plan: &Plan) -> Option<Sent> {
        match nft::update(&before?.ruleset, &plan.ruleset) {
            Ok(sent) => sent,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "rules differ from what was sent, replacing them"
                );
                None
            }
        }
    }
}
