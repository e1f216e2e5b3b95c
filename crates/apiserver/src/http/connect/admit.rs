//! Admission of connections: the options of a connection are the object that is looked at.

use sampan_api::Status;
use sampan_api::table::Subresource;
use serde_json::{Map, Value};

use crate::ApiServer;
use crate::admission::{self, Attributes, Operation};
use crate::registry::Context;
use crate::route::ResourceRoute;

/// Asks admission about a connection.
pub async fn admit(
    server: &ApiServer,
    route: &ResourceRoute,
    subresource: &Subresource,
    query: &str,
    context: &mut Context,
) -> Result<(), Status> {
    let resource = server.registry.resource(&route.gvr)?;
    let mut options = options(subresource, query, &route.rest);
    let attributes = Attributes {
        registry: &server.registry,
        resource: &resource,
        subresource: &subresource.name,
        operation: Operation::Connect,
        namespace: route.namespace.as_deref(),
        name: route.name.as_deref().unwrap_or_default(),
        old: None,
        deletion: None,
    };
    admission::mutate(&attributes, &mut options, context).await?;
    admission::validate(&attributes, Some(&options), context).await
}

/// `PodExecOptions` and the like, from a query.
fn options(subresource: &Subresource, query: &str, rest: &str) -> Value {
    let mut options = Map::new();
    let api_version = match subresource.group.as_ref() {
        "" => subresource.version.to_string(),
        group => format!("{group}/{}", subresource.version),
    };
    options.insert("kind".into(), subresource.kind.to_string().into());
    options.insert("apiVersion".into(), api_version.into());
    if subresource.name == "proxy" {
        options.insert("path".into(), rest.to_owned().into());
        return Value::Object(options);
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "command" => push(&mut options, "command", value.into_owned().into()),
            "ports" | "port" => {
                if let Ok(port) = value.parse::<u16>() {
                    push(&mut options, "ports", port.into());
                }
            }
            "stdin" | "stdout" | "stderr" | "tty" => {
                let yes = !matches!(value.as_ref(), "false" | "False" | "FALSE" | "0" | "f" | "F");
                options.insert(name.into_owned(), yes.into());
            }
            "container" => {
                options.insert("container".into(), value.into_owned().into());
            }
            _ => {}
        }
    }
    Value::Object(options)
}

fn push(options: &mut Map<String, Value>, name: &str, value: Value) {
    let list = options.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}
