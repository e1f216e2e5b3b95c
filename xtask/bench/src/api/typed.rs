//! What costs the server thought: server-side apply, and custom resources with rules.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use futures_util::StreamExt as _;
use http::Method;
use sampan_api::Gvr;
use sampan_client::kubeconfig::Access;
use sampan_client::remote::Call;
use sampan_client::{Backend as _, ListOptions, RemoteBackend, WatchEvent, WatchStream};
use serde_json::{Value, json};

use crate::client::{CLIENTS, connect, load, post};
use crate::figure::{Figure, quantile};

const WINDOW: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);
const DEFINITIONS: Gvr = Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
const DEFINITION: &str = "widgets.bench.example.com";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const WIDGETS: &str = "/apis/bench.example.com/v1/namespaces/default/widgets";

pub async fn measure(access: &Access) -> Result<Vec<Figure>> {
    let clients = (0..CLIENTS).map(|_| connect(access)).collect::<Result<Vec<_>>>()?;
    let applies = load(clients.clone(), WINDOW, |client: Arc<RemoteBackend>, number| async move {
        let name = format!("app-{}", number % CLIENTS);
        let config = deployment(&name, number);
        apply(&client, &format!("{DEPLOYMENTS}/{name}?fieldManager=bench"), &config).await
    })
    .await?;
    let options =
        ListOptions { field_selector: Some(format!("metadata.name={DEFINITION}")), ..ListOptions::default() };
    let mut definitions = clients[0]
        .watch(&DEFINITIONS, None, &options)
        .await
        .map_err(|status| anyhow!("no watch of definitions: {status}"))?;
    post(&clients[0], "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition().to_string())
        .await?;
    established(&mut definitions).await?;
    let creates = load(clients, WINDOW, |client: Arc<RemoteBackend>, number| async move {
        post(&client, WIDGETS, widget(number).to_string()).await.map(drop)
    })
    .await?;
    Ok(vec![
        Figure::higher("server-side apply of a changed deployment, 64 clients", applies.per_second, "/s"),
        Figure::lower("  p99", quantile(&applies.latencies, 0.99)?, "ms"),
        Figure::higher("create custom resources with 5 CEL rules, 64 clients", creates.per_second, "/s"),
        Figure::lower("  p99", quantile(&creates.latencies, 0.99)?, "ms"),
    ])
}

async fn apply(client: &RemoteBackend, path: &str, config: &Value) -> Result<()> {
    let call = Call {
        method: Method::PATCH,
        content_type: "application/apply-patch+yaml",
        body: config.to_string().into(),
        ..Call::get(path)
    };
    client.bytes(call, 1 << 20).await.map(drop).map_err(|status| anyhow!("apply {path}: {status}"))
}

/// A deployment of no pods, so that only its writes are measured.
fn deployment(name: &str, round: usize) -> Value {
    let variables: Vec<_> = (0..12)
        .map(|index| json!({"name": format!("SETTING_{index}"), "value": format!("value of round {round}")}))
        .collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 0,
            "paused": true,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "app",
                    "image": "images.example.com/team/app:1.2.3",
                    "env": variables,
                    "ports": [{"containerPort": 8080, "name": "http"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                }]},
            },
        },
    })
}

fn definition() -> Value {
    let rule = |rule: &str| json!({"rule": rule, "message": "does not fit"});
    let text = json!({"type": "string", "maxLength": 63});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": DEFINITION},
        "spec": {
            "group": "bench.example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object",
                    "properties": {
                        "least": {"type": "integer"},
                        "most": {"type": "integer"},
                        "host": text,
                        "parts": {"type": "array", "maxItems": 20, "items": {
                            "type": "object", "properties": {"name": text, "weight": {"type": "integer"}},
                        }},
                    },
                    "x-kubernetes-validations": [
                        rule("self.least <= self.most"),
                        rule("self.parts.all(part, part.weight >= self.least && part.weight <= self.most)"),
                        rule("self.parts.map(part, part.weight).sum() <= 100"),
                        rule("self.host.matches('^[a-z0-9.-]+$')"),
                        rule("!self.parts.exists(part, part.name == self.host)"),
                    ],
                }}}},
            }],
        },
    })
}

fn widget(number: usize) -> Value {
    let parts: Vec<_> =
        (0..10).map(|index| json!({"name": format!("part-{index}"), "weight": 1 + index})).collect();
    json!({
        "apiVersion": "bench.example.com/v1",
        "kind": "Widget",
        "metadata": {"name": format!("widget-{number}")},
        "spec": {"least": 1, "most": 10, "host": "widgets.example.com", "parts": parts},
    })
}

/// A kind is served from the moment that its definition says so.
async fn established(definitions: &mut WatchStream) -> Result<()> {
    let holds = |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
    loop {
        let event = tokio::time::timeout(PATIENCE, definitions.next())
            .await
            .context("the definition of widgets was never served")?
            .context("the watch of definitions ended")?
            .map_err(|status| anyhow!("the watch of definitions failed: {status}"))?;
        let (WatchEvent::Added(definition) | WatchEvent::Modified(definition)) = event else { continue };
        let definition: Value = definition.decode()?;
        if definition["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(holds)) {
            return Ok(());
        }
    }
}
