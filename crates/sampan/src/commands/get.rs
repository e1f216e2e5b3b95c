//! `sampan get`: prints objects, as tables that the server makes.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use sampan_client::remote::{Call, Lines, Query, path};
use sampan_client::{Backend as _, ListOptions, Target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cluster::{ApiResource, Cluster, ClusterArgs, Discovery};
use super::table::{Printer, Table};

/// The longest table, and the longest event of a watch.
const TABLE_BYTES: usize = 256 << 20;
const EVENT_BYTES: usize = 16 << 20;
const ACCEPT_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[derive(Args, Debug)]
pub struct GetArgs {
    /// Resource, several with commas (po,svc), a category (all), or RESOURCE/NAME
    resource: String,
    /// Names of objects; all of the namespace without any
    names: Vec<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Field selector
    #[arg(long)]
    field_selector: Option<String>,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Go on with every change
    #[arg(short, long)]
    watch: bool,
    /// No line of column names
    #[arg(long)]
    no_headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Deserialize)]
struct TableEvent {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

impl GetArgs {
    pub async fn run(mut self) -> Result<()> {
        let cluster = self.cluster.open()?;
        let discovery = Discovery::read(&cluster.remote).await?;
        if let Some((resource, name)) = self.resource.clone().split_once('/') {
            self.resource = resource.to_owned();
            self.names.insert(0, name.to_owned());
        }
        let resources = discovery.resources(&self.resource)?;
        if self.watch && (resources.len() > 1 || self.names.len() > 1) {
            bail!("you may only specify a single resource type, and one name at most, with --watch");
        }
        if !self.names.is_empty() && resources.len() > 1 {
            bail!("names need one resource type; use RESOURCE/NAME");
        }
        if !self.names.is_empty() && (self.all_namespaces || self.selector.is_some()) {
            bail!("a resource cannot be retrieved by name across all namespaces or with a selector");
        }
        match self.output {
            Output::Table | Output::Wide => self.print_tables(&cluster, &resources).await,
            Output::Json | Output::Yaml | Output::Name => self.print_objects(&cluster, &resources).await,
        }
    }

    fn namespace<'a>(&self, cluster: &'a Cluster, resource: &ApiResource) -> Option<&'a str> {
        if self.all_namespaces { None } else { resource.namespace(&cluster.namespace) }
    }

    fn options(&self) -> ListOptions {
        // One name is a list of one, so that a watch can go on from it.
        let name = self.names.first().filter(|_| self.watch).map(|name| format!("metadata.name={name}"));
        ListOptions {
            label_selector: self.selector.clone(),
            field_selector: self.field_selector.clone().or(name),
            ..ListOptions::default()
        }
    }

    async fn print_tables(&self, cluster: &Cluster, resources: &[&ApiResource]) -> Result<()> {
        let mut printed = 0;
        for resource in resources {
            let mut printer = Printer {
                wide: self.output == Output::Wide,
                namespaces: self.all_namespaces && resource.namespaced,
                headers: !self.no_headers,
                prefix: (resources.len() > 1).then(|| resource.label()),
                widths: Vec::new(),
            };
            let table = self.table(cluster, resource).await?;
            if table.rows.is_empty() && !self.watch {
                continue;
            }
            if printed > 0 {
                println!();
            }
            printed += table.rows.len();
            print(&printer.print(&table))?;
            if self.watch {
                return self.watch_table(cluster, resource, &mut printer, table).await;
            }
        }
        if printed == 0 {
            let namespaced = resources.iter().any(|resource| resource.namespaced) && !self.all_namespaces;
            let place =
                if namespaced { format!(" in {} namespace.", cluster.namespace) } else { String::new() };
            eprintln!("No resources found{place}");
        }
        Ok(())
    }

    async fn table(&self, cluster: &Cluster, resource: &ApiResource) -> Result<Table> {
        let namespace = self.namespace(cluster, resource);
        let read = async |name: Option<&str>| -> Result<Table> {
            let query = if name.is_some() { Query::new() } else { self.query() };
            let call =
                Call { accept: ACCEPT_TABLE, ..Call::get(query.at(path(&resource.gvr, namespace, name))) };
            let bytes = cluster.remote.bytes(call, TABLE_BYTES).await?;
            Table::read(&bytes).context("the server's table cannot be read")
        };
        if self.names.is_empty() || self.watch {
            return read(None).await;
        }
        let mut whole: Option<Table> = None;
        for name in &self.names {
            let table = read(Some(name)).await?;
            match &mut whole {
                None => whole = Some(table),
                Some(whole) => whole.rows.extend(table.rows),
            }
        }
        Ok(whole.unwrap_or_default())
    }

    fn query(&self) -> Query {
        let options = self.options();
        let mut query = Query::new();
        if let Some(selector) = &options.label_selector {
            query.add("labelSelector", selector);
        }
        if let Some(selector) = &options.field_selector {
            query.add("fieldSelector", selector);
        }
        query
    }

    /// Prints rows as they change, until the command is stopped.
    async fn watch_table(
        &self,
        cluster: &Cluster,
        resource: &ApiResource,
        printer: &mut Printer,
        table: Table,
    ) -> Result<()> {
        printer.headers = false;
        let mut columns = table.columns;
        let mut revision = table.metadata.resource_version;
        loop {
            let mut query = self.query();
            query.add("watch", "true").add("allowWatchBookmarks", "true").add("resourceVersion", &revision);
            let path = path(&resource.gvr, self.namespace(cluster, resource), None);
            let response =
                cluster.remote.send(Call { accept: ACCEPT_TABLE, ..Call::get(query.at(path)) }).await?;
            let mut lines = Lines::new(response.into_body(), EVENT_BYTES);
            while let Some(line) = lines.next().await? {
                let event: TableEvent = serde_json::from_slice(&line).context("an event cannot be read")?;
                if event.kind == "ERROR" {
                    bail!("{}", event.object["message"].as_str().unwrap_or("the watch failed"));
                }
                let mut table = Table::of(event.object)?;
                if let Some(seen) = table.revision() {
                    revision = seen;
                }
                if event.kind == "BOOKMARK" {
                    continue;
                }
                // Columns are told with the first table only.
                if table.columns.is_empty() {
                    table.columns.clone_from(&columns);
                } else {
                    columns.clone_from(&table.columns);
                }
                print(&printer.print(&table))?;
            }
        }
    }

    async fn print_objects(&self, cluster: &Cluster, resources: &[&ApiResource]) -> Result<()> {
        let mut items = Vec::new();
        let mut revision = 0;
        for resource in resources {
            let namespace = self.namespace(cluster, resource);
            if self.names.is_empty() || self.watch {
                let list = cluster.remote.list(&resource.gvr, namespace, &self.options()).await?;
                revision = list.revision;
                items.extend(list.items.into_iter().map(|object| (*resource, object)));
            }
            for name in self.names.iter().filter(|_| !self.watch) {
                let target = Target { gvr: &resource.gvr, namespace, name, subresource: None };
                items.push((*resource, cluster.remote.get(target).await?));
            }
        }
        if self.output == Output::Name || self.watch {
            for (resource, object) in &items {
                self.print_one(resource, &object.header.name, &object.bytes())?;
            }
        } else {
            let mut values =
                items.iter().map(|(_, object)| object.decode()).collect::<Result<Vec<Value>, _>>()?;
            let value = if self.names.len() == 1 && values.len() == 1 {
                values.remove(0)
            } else {
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": values})
            };
            self.print_value(&value)?;
        }
        match resources {
            [resource] if self.watch => self.watch_objects(cluster, resource, revision).await,
            _ => Ok(()),
        }
    }

    async fn watch_objects(
        &self,
        cluster: &Cluster,
        resource: &ApiResource,
        mut revision: u64,
    ) -> Result<()> {
        use futures_util::StreamExt as _;
        use sampan_client::WatchEvent;
        loop {
            let options = ListOptions { revision: Some(revision), ..self.options() };
            let namespace = self.namespace(cluster, resource);
            let mut events = cluster.remote.watch(&resource.gvr, namespace, &options).await?;
            while let Some(event) = events.next().await {
                match event? {
                    WatchEvent::Added(object)
                    | WatchEvent::Modified(object)
                    | WatchEvent::Deleted(object) => {
                        revision = object.header.revision;
                        self.print_one(resource, &object.header.name, &object.bytes())?;
                    }
                    WatchEvent::Bookmark(at) => revision = at,
                }
            }
        }
    }

    fn print_one(&self, resource: &ApiResource, name: &str, bytes: &[u8]) -> Result<()> {
        if self.output == Output::Name {
            return print(&format!("{}/{name}\n", resource.label()));
        }
        if self.output == Output::Yaml {
            print("---\n")?;
        }
        self.print_value(&serde_json::from_slice(bytes)?)
    }

    fn print_value(&self, value: &Value) -> Result<()> {
        match self.output {
            Output::Yaml => print(&yaml_serde::to_string(value)?),
            Output::Json | Output::Name | Output::Table | Output::Wide => {
                let mut text = Vec::new();
                let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
                serde::Serialize::serialize(
                    value,
                    &mut serde_json::Serializer::with_formatter(&mut text, formatter),
                )?;
                text.push(b'\n');
                print(&String::from_utf8(text)?)
            }
        }
    }
}

/// Prints; a reader that has gone (`| head`) is an end, not a fault.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}
