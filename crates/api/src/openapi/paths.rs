//! The operations of a document.

use serde_json::{Map, Value, json};

use super::components::{Components, META};
use super::parameters::{self, Parameter};
use super::{Dialect, version_path};
use crate::table::{ResourceDef, SchemaRef, Subresource, SubresourceRole, Verb};

/// Adds the path that lists the resources of a version.
pub(super) fn add_version(
    paths: &mut Map<String, Value>,
    components: &mut Components,
    group: &str,
    version: &str,
) {
    let list = format!("{META}.APIResourceList");
    let body = components.builtin(&list);
    components.name_kind(&list, "", "v1", "APIResourceList");
    let mut operation = json!({
        "tags": [tag(group, version)],
        "description": "get available resources",
        "operationId": format!("get{}APIResources", camel(group, version)),
    });
    respond(&mut operation, components.dialect, &[("200", "OK")], Some(&body), false);
    paths.insert(format!("/{}/", version_path(group, version)), json!({"get": operation}));
}

/// Adds everything that may be done with a resource.
pub(super) fn add_resource(paths: &mut Map<String, Value>, components: &mut Components, entry: &ResourceDef) {
    let Some((schema, id)) = entry.schema() else { return };
    let type_name = schema.type_def(id).name.to_string();
    let own = match &entry.version {
        Some(version) => components.custom(&type_name, version),
        None => components.of_schema(schema, id),
    };
    let (group, version) = (&entry.gvr.group, &entry.gvr.version);
    components.name_kind(&type_name, group, version, &entry.kind);
    let status = format!("{META}.Status");
    components.builtin(&status);
    components.name_kind(&status, "", "v1", "Status");

    let mut writer = Writer { entry, components };
    let base = format!("/{}", version_path(group, version));
    let scoped = if entry.namespaced { format!("{base}/namespaces/{{namespace}}") } else { base.clone() };
    let collection = format!("{scoped}/{}", entry.gvr.resource);
    let list = entry.verbs.contains(Verb::List).then(|| {
        let list = writer.components.list_of(&type_name, &entry.list_kind);
        let package = type_name.rsplit_once('.').map_or("", |(package, _)| package);
        writer.components.name_kind(
            &format!("{package}.{}", entry.list_kind),
            group,
            version,
            &entry.list_kind,
        );
        list
    });
    writer.add_collection(paths, &collection, &own, list.as_ref());
    if let (true, Some(list)) = (entry.namespaced, &list) {
        let mut operation = writer.operation("list", "list", "ForAllNamespaces", parameters::LIST);
        respond(&mut operation, writer.components.dialect, &[("200", "OK")], Some(list), true);
        paths.insert(format!("{base}/{}", entry.gvr.resource), json!({"get": operation}));
    }
    writer.add_object(paths, &format!("{collection}/{{name}}"), &own);
    for subresource in &entry.subresources {
        let path = format!("{collection}/{{name}}/{}", subresource.name);
        writer.add_subresource(paths, &path, subresource, &own);
    }
}

struct Writer<'a> {
    entry: &'a ResourceDef,
    components: &'a mut Components,
}

impl Writer<'_> {
    fn dialect(&self) -> Dialect {
        self.components.dialect
    }

    fn add_collection(
        &mut self,
        paths: &mut Map<String, Value>,
        path: &str,
        own: &Value,
        list: Option<&Value>,
    ) {
        let mut item = Map::new();
        let verbs = self.entry.verbs;
        if let Some(list) = list {
            let mut operation = self.operation("list", "list", "", parameters::LIST);
            respond(&mut operation, self.dialect(), &[("200", "OK")], Some(list), true);
            item.insert("get".to_owned(), operation);
        }
        if verbs.contains(Verb::Create) {
            let mut operation = self.operation("create", "post", "", parameters::WRITE);
            let created = [("200", "OK"), ("201", "Created"), ("202", "Accepted")];
            self.take(&mut operation, own, true);
            respond(&mut operation, self.dialect(), &created, Some(own), false);
            item.insert("post".to_owned(), operation);
        }
        if verbs.contains(Verb::DeleteCollection) {
            let both: Vec<Parameter> = [parameters::LIST, parameters::DELETE_COLLECTION].concat();
            let mut operation = self.operation("deletecollection", "deletecollection", "", &both);
            self.finish_delete(&mut operation, None);
            item.insert("delete".to_owned(), operation);
        }
        self.insert(paths, path, item, false);
    }

    fn add_object(&mut self, paths: &mut Map<String, Value>, path: &str, own: &Value) {
        let mut item = Map::new();
        let verbs = self.entry.verbs;
        self.add_read_write(
            &mut item,
            verbs.contains(Verb::Get),
            verbs.contains(Verb::Update),
            "",
            own,
            None,
        );
        if verbs.contains(Verb::Patch) {
            let operation = self.patch("", own, None);
            item.insert("patch".to_owned(), operation);
        }
        if verbs.contains(Verb::Delete) {
            let mut operation = self.operation("delete", "delete", "", parameters::DELETE);
            self.finish_delete(&mut operation, self.entry.deletion_shows_object().then_some(own));
            item.insert("delete".to_owned(), operation);
        }
        self.insert(paths, path, item, true);
    }

    fn add_subresource(
        &mut self,
        paths: &mut Map<String, Value>,
        path: &str,
        one: &Subresource,
        own: &Value,
    ) {
        let mut item = Map::new();
        let suffix = capitalized(&one.name);
        if one.role == SubresourceRole::Connect {
            let methods = [
                (Verb::Get, "get"),
                (Verb::Create, "post"),
                (Verb::Update, "put"),
                (Verb::Patch, "patch"),
                (Verb::Delete, "delete"),
            ];
            for (_, method) in methods.into_iter().filter(|(verb, _)| one.verbs.contains(*verb)) {
                let (verb_name, action) =
                    if one.name == "log" { ("read", "get") } else { ("connect", "connect") };
                let extra = if verb_name == "read" { String::new() } else { capitalized(method) };
                let mut operation =
                    self.operation(verb_name, action, &suffix, parameters::connect(&one.name));
                operation["operationId"] =
                    format!("{verb_name}{}", self.operation_name(&extra, &suffix)).into();
                self.set_kind(&mut operation, one);
                respond(&mut operation, self.dialect(), &[("200", "OK")], None, false);
                item.insert(method.to_owned(), operation);
            }
            return self.insert(paths, path, item, true);
        }
        let body = match one.schema {
            Some(name) => {
                let reference = self.components.builtin(name);
                self.components.name_kind(name, &one.group, &one.version, &one.kind);
                reference
            }
            None => own.clone(),
        };
        let (get, update) = (one.verbs.contains(Verb::Get), one.verbs.contains(Verb::Update));
        self.add_read_write(&mut item, get, update, &suffix, &body, Some(one));
        if one.verbs.contains(Verb::Patch) {
            let operation = self.patch(&suffix, &body, Some(one));
            item.insert("patch".to_owned(), operation);
        }
        if one.verbs.contains(Verb::Create) {
            let mut operation = self.operation("create", "post", &suffix, parameters::WRITE);
            self.set_kind(&mut operation, one);
            self.take(&mut operation, &body, true);
            let created = [("200", "OK"), ("201", "Created"), ("202", "Accepted")];
            respond(&mut operation, self.dialect(), &created, Some(&body), false);
            item.insert("post".to_owned(), operation);
        }
        self.insert(paths, path, item, true);
    }

    fn add_read_write(
        &mut self,
        item: &mut Map<String, Value>,
        get: bool,
        update: bool,
        suffix: &str,
        body: &Value,
        of: Option<&Subresource>,
    ) {
        let dialect = self.dialect();
        if get {
            let mut operation = self.operation("read", "get", suffix, parameters::READ);
            of.inspect(|one| self.set_kind(&mut operation, one));
            respond(&mut operation, dialect, &[("200", "OK")], Some(body), false);
            item.insert("get".to_owned(), operation);
        }
        if update {
            let mut operation = self.operation("replace", "put", suffix, parameters::WRITE);
            of.inspect(|one| self.set_kind(&mut operation, one));
            self.take(&mut operation, body, true);
            respond(&mut operation, dialect, &[("200", "OK"), ("201", "Created")], Some(body), false);
            item.insert("put".to_owned(), operation);
        }
    }

    fn patch(&mut self, suffix: &str, answer: &Value, of: Option<&Subresource>) -> Value {
        let mut operation = self.operation("patch", "patch", suffix, parameters::PATCH);
        of.inspect(|one| self.set_kind(&mut operation, one));
        let body = self.components.builtin(&format!("{META}.Patch"));
        // Custom resources have no merge keys that clients could use.
        let strategic = matches!(self.entry.schema, SchemaRef::Builtin(_));
        let types =
            ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
                .into_iter()
                .chain(strategic.then_some("application/strategic-merge-patch+json"));
        match self.dialect() {
            Dialect::V2 => {
                operation["consumes"] = types.collect();
                push_body(&mut operation, &body, true);
            }
            Dialect::V3 => {
                let content: Map<String, Value> =
                    types.map(|name| (name.to_owned(), json!({"schema": body}))).collect();
                operation["requestBody"] = json!({"content": content, "required": true});
            }
        }
        respond(&mut operation, self.dialect(), &[("200", "OK"), ("201", "Created")], Some(answer), false);
        operation
    }

    /// What a deletion takes, and what it answers: a status unless it shows the object.
    fn finish_delete(&mut self, operation: &mut Value, object: Option<&Value>) {
        let options = format!("{META}.DeleteOptions");
        let body = self.components.builtin(&options);
        let (group, version) = (&self.entry.gvr.group, &self.entry.gvr.version);
        self.components.name_kind(&options, "", "v1", "DeleteOptions");
        self.components.name_kind(&options, group, version, "DeleteOptions");
        self.take(operation, &body, false);
        let status = self.components.builtin(&format!("{META}.Status"));
        let answer = Some(object.unwrap_or(&status));
        respond(operation, self.dialect(), &[("200", "OK"), ("202", "Accepted")], answer, false);
    }

    /// The body that an operation takes.
    fn take(&self, operation: &mut Value, body: &Value, required: bool) {
        match self.dialect() {
            Dialect::V2 => push_body(operation, body, required),
            Dialect::V3 => {
                let content =
                    json!({"application/json": {"schema": body}, "application/yaml": {"schema": body}});
                operation["requestBody"] = json!({"content": content, "required": required});
            }
        }
    }

    fn operation(&self, verb: &str, action: &str, suffix: &str, query: &[Parameter]) -> Value {
        let gvr = &self.entry.gvr;
        let id = match verb {
            "deletecollection" => format!("delete{}", self.operation_name("Collection", suffix)),
            verb => format!("{verb}{}", self.operation_name("", suffix)),
        };
        json!({
            "tags": [tag(&gvr.group, &gvr.version)],
            "description": describe(action, &self.entry.kind, suffix),
            "operationId": id,
            "parameters": parameters::query(self.dialect(), query),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": gvr.group, "version": gvr.version, "kind": self.entry.kind},
        })
    }

    fn operation_name(&self, infix: &str, suffix: &str) -> String {
        let gvr = &self.entry.gvr;
        let scope = if self.entry.namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        format!("{}{infix}{scope}{}{suffix}", camel(&gvr.group, &gvr.version), self.entry.kind)
    }

    fn set_kind(&self, operation: &mut Value, one: &Subresource) {
        operation["x-kubernetes-group-version-kind"] =
            json!({"group": one.group, "version": one.version, "kind": one.kind});
    }

    /// Adds the operations of a path, with the parameters that stand in it.
    fn insert(&self, paths: &mut Map<String, Value>, path: &str, mut item: Map<String, Value>, named: bool) {
        if item.is_empty() {
            return;
        }
        let mut common = Vec::new();
        if named {
            common.push(parameters::in_path(
                self.dialect(),
                "name",
                &format!("name of the {}", self.entry.kind),
            ));
        }
        if self.entry.namespaced {
            common.push(parameters::in_path(self.dialect(), "namespace", "namespace of the object"));
        }
        if !common.is_empty() {
            item.insert("parameters".to_owned(), common.into());
        }
        paths.insert(path.to_owned(), item.into());
    }
}

fn push_body(operation: &mut Value, body: &Value, required: bool) {
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": body}));
    }
}

/// The answers of an operation; without a body they are of any type.
fn respond(
    operation: &mut Value,
    dialect: Dialect,
    codes: &[(&str, &str)],
    body: Option<&Value>,
    streams: bool,
) {
    let mut types = vec!["application/json", "application/yaml"];
    if body.is_none() {
        types = vec!["*/*"];
    } else if streams {
        types.push("application/json;stream=watch");
    }
    let text = json!({"type": "string"});
    let schema = body.unwrap_or(&text);
    let mut responses = Map::new();
    for (code, description) in codes {
        let response = match dialect {
            Dialect::V2 => json!({"description": description, "schema": schema}),
            Dialect::V3 => {
                let content: Map<String, Value> =
                    types.iter().map(|name| ((*name).to_owned(), json!({"schema": schema}))).collect();
                json!({"description": description, "content": content})
            }
        };
        responses.insert((*code).to_owned(), response);
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    operation["responses"] = responses.into();
    if dialect == Dialect::V2 {
        operation["produces"] = json!(types);
        operation["schemes"] = json!(["https"]);
        if operation.get("consumes").is_none() {
            operation["consumes"] = json!(["application/json", "application/yaml"]);
        }
    }
}

fn describe(action: &str, kind: &str, suffix: &str) -> String {
    let what = match suffix {
        "" | "ForAllNamespaces" => kind.to_owned(),
        part => format!("{} of the specified {kind}", part.to_ascii_lowercase()),
    };
    match action {
        "list" => format!("list or watch objects of kind {kind}"),
        "post" if suffix.is_empty() => format!("create a {what}"),
        "post" => format!("create {what}"),
        "deletecollection" => format!("delete a collection of {kind}"),
        "get" if suffix.is_empty() => format!("read the specified {what}"),
        "get" => format!("read {what}"),
        "put" => {
            format!("replace {}", if suffix.is_empty() { format!("the specified {what}") } else { what })
        }
        "patch" => format!(
            "partially update {}",
            if suffix.is_empty() { format!("the specified {what}") } else { what }
        ),
        "delete" => format!("delete a {what}"),
        _ => format!("connect to {what}"),
    }
}

/// `rbac.authorization.k8s.io` and `v1` as `RbacAuthorizationV1`.
fn camel(group: &str, version: &str) -> String {
    let short = if group.is_empty() { "core" } else { group.trim_end_matches(".k8s.io") };
    let words = short.split(['.', '-']).map(capitalized).collect::<String>();
    format!("{words}{}", capitalized(version))
}

/// `rbac.authorization.k8s.io` and `v1` as `rbacAuthorization_v1`.
fn tag(group: &str, version: &str) -> String {
    let words = camel(group, "");
    let mut chars = words.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    format!("{}_{version}", first.into_iter().chain(chars).collect::<String>())
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}
