//! Custom resources between the versions of their definition: by name alone, or by a webhook.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sampan_api::custom::Conversion;
use sampan_api::table::ResourceDef;
use sampan_api::{Gvr, Status};
use serde_json::Value;

use crate::registry::Registry;
use crate::webhook::Webhook;

mod review;

/// How long a webhook may take for one review.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The webhooks that convert, by definition, with what they were made from. They keep their connections.
#[derive(Default)]
pub struct Converters {
    webhooks: Mutex<HashMap<String, (Value, Arc<Webhook>)>>,
}

impl Converters {
    fn webhook(&self, registry: &Registry, definition: &str, client: &Value) -> Result<Arc<Webhook>, String> {
        if let Some((source, webhook)) = self.webhooks.lock().get(definition)
            && source == client
        {
            return Ok(webhook.clone());
        }
        let webhook = Arc::new(Webhook::new(registry, client).map_err(|error| error.to_string())?);
        self.webhooks.lock().insert(definition.to_owned(), (client.clone(), webhook.clone()));
        Ok(webhook)
    }

    /// Closes what a definition that is gone had open.
    pub(crate) fn forget(&self, definition: &str) {
        self.webhooks.lock().remove(definition);
    }
}

/// Converts objects of one resource to a version, in their order. Those that are in it stay as they are.
pub async fn convert(
    registry: &Registry,
    def: &ResourceDef,
    to: &Gvr,
    mut objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let version = def.version.as_ref().ok_or_else(|| Status::internal("not a custom resource"))?;
    let wanted = to.api_version();
    let others: Vec<usize> =
        (0..objects.len()).filter(|at| objects[*at]["apiVersion"] != wanted.as_str()).collect();
    match &version.conversion {
        _ if others.is_empty() => {}
        Conversion::None => {
            for at in &others {
                objects[*at]["apiVersion"] = wanted.clone().into();
            }
        }
        Conversion::Webhook { client, review_versions } => {
            let asked: Vec<Value> = others.iter().map(|at| objects[*at].clone()).collect();
            let kind = review::kind_of(&asked[0]);
            let failed = |why: String| refused(format!("conversion webhook for {kind} failed: {why}"));
            let webhook =
                registry.converters.webhook(registry, &version.definition, client).map_err(failed)?;
            let request = review::request(review_versions, &wanted, &asked)
                .ok_or_else(|| refused("no supported conversion review versions".to_owned()))?;
            let answer = webhook.call(&request, TIMEOUT).await.map_err(|error| failed(error.to_string()))?;
            let converted = review::accept(&request, answer, &asked).map_err(refused)?;
            for (at, object) in others.iter().zip(converted) {
                objects[*at] = object;
            }
        }
    }
    // What another version lacks or has a default for may differ.
    let target = registry.table().get_gvr(to).and_then(|entry| entry.version.clone());
    if let Some(target) = target {
        others.into_iter().for_each(|at| {
            target.normalise(&mut objects[at]);
        });
    }
    Ok(objects)
}

/// Clients see what a webhook did wrong, without a reason that they could act on.
fn refused(message: String) -> Status {
    Status::failure(500, "", message)
}
