//! The cluster's keys, as the rest of the process uses them: controllers sign with them, the cluster hears
//! whom to trust, and an administrator rotates them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use sampan_api::certificates::CertificateRequest;
use sampan_apiserver::bootstrap;
use sampan_apiserver::identity::authentication::ServiceAccountTokens;
use sampan_apiserver::identity::pki::{Grant, Pki, RotationStep};
use sampan_apiserver::registry::Registry;
use sampan_controllers::{Authority, SignError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster_identity::SharedKeys;

/// How long publishing waits after it failed.
const RETRY: Duration = Duration::from_secs(1);

/// Signs with the keys of this machine.
pub struct ClusterAuthority {
    pub pki: Arc<Pki>,
    /// The longest life that is granted.
    pub longest: Duration,
}

impl Authority for ClusterAuthority {
    fn bundle(&self) -> String {
        self.pki.bundle()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.pki.bundle_changes()
    }

    fn sign(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        expiration_seconds: Option<i64>,
    ) -> Result<String, SignError> {
        let grant = Grant { request, usages, expiration_seconds, longest: self.longest };
        self.pki.sign_request(&grant, Timestamp::now()).map_err(|error| SignError(error.to_string()))
    }
}

/// Tells aggregated servers whose certificates this one takes, whenever that changes.
pub async fn publish(registry: Arc<Registry>, pki: Arc<Pki>) {
    let mut changes = pki.bundle_changes();
    while changes.changed().await.is_ok() {
        while let Err(status) =
            bootstrap::publish_authorities(&registry, &pki.bundle(), &pki.front_proxy_bundle()).await
        {
            tracing::warn!(%status, "the authorities were not published");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// What is rotated.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rotated {
    Authorities,
    TokenKey,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Make the next one, and trust both
    Begin,
    /// Drop the one before
    Finish,
}

/// What `sampan certificates rotate-…` asks for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    pub what: Rotated,
    pub step: Step,
}

/// What the routes work on.
#[derive(Clone)]
struct Keys {
    /// Where other servers have the same keys.
    shared: Option<Arc<SharedKeys>>,
    pki: Arc<Pki>,
    tokens: Arc<ServiceAccountTokens>,
}

/// The routes of the admin socket about certificates.
pub fn routes(pki: Arc<Pki>, tokens: Arc<ServiceAccountTokens>, shared: Option<Arc<SharedKeys>>) -> Router {
    Router::new().route("/certificates/rotate", post(rotate)).with_state(Keys { shared, pki, tokens })
}

async fn rotate(State(keys): State<Keys>, Json(asked): Json<Rotation>) -> (StatusCode, Json<Value>) {
    match keys.rotate(asked).await {
        Ok(()) => (StatusCode::OK, Json(json!({}))),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": format!("{error:#}")}))),
    }
}

impl Keys {
    async fn rotate(self, asked: Rotation) -> anyhow::Result<()> {
        let shared = self.shared.clone();
        if let Some(shared) = &shared {
            shared.check_alone().await?;
        }
        // Files are written: not on a thread that serves.
        tokio::task::spawn_blocking(move || self.step(asked)).await??;
        if let Some(shared) = &shared {
            shared.publish().await?;
        }
        tracing::info!(what = ?asked.what, step = ?asked.step, "rotated");
        Ok(())
    }

    fn step(&self, asked: Rotation) -> anyhow::Result<()> {
        let step = match asked.step {
            Step::Begin => RotationStep::Begin,
            Step::Finish => RotationStep::Finish,
        };
        match asked.what {
            Rotated::Authorities => self.pki.rotate_authorities(step, Timestamp::now())?,
            Rotated::TokenKey => {
                self.pki.rotate_token_key(step)?;
                self.pki.with_token_keys(|keys| self.tokens.replace_keys(keys))?;
            }
        }
        Ok(())
    }
}
