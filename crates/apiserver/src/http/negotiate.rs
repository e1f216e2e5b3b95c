//! Content negotiation: what the client sends and what it can read.
//!
//! The rules are upstream's: clauses of `Accept` by their weight, the more exact one first among
//! equals; of each clause the first media type that the endpoint can write in the asked shape.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use sampan_api::table::ResourceDef;
use sampan_api::{Status, protobuf};
use sampan_client::PatchKind;

use crate::registry::BodyFormat;
use crate::route::{Query, ResourceRoute};

mod accept;

use accept::Clause;

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The objects themselves.
    Object,
    /// `meta.k8s.io` Table: what kubectl prints.
    Table(MetaVersion),
    /// `meta.k8s.io` PartialObjectMetadata.
    Metadata(MetaVersion),
    /// The list of these: of lists only.
    MetadataList(MetaVersion),
}

/// A version of `meta.k8s.io`: the same types under two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    pub fn api_version(self) -> &'static str {
        match self {
            MetaVersion::V1 => "meta.k8s.io/v1",
            MetaVersion::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Media {
    Json,
    Yaml,
    Protobuf,
}

impl Media {
    const ALL: [Media; 3] = [Media::Json, Media::Yaml, Media::Protobuf];

    pub fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
            Media::Protobuf => protobuf::MEDIA_TYPE,
        }
    }

    /// Whether events of a watch can be written in it.
    fn streams(self) -> bool {
        self != Media::Yaml
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub shape: Shape,
    pub media: Media,
    /// Indented, for people.
    pub pretty: bool,
    /// Long bodies may be compressed.
    pub gzip: bool,
}

impl Accepted {
    pub const JSON: Accepted =
        Accepted { shape: Shape::Object, media: Media::Json, pretty: false, gzip: false };
}

/// What an endpoint can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its objects have a protobuf form.
    protobuf: bool,
    /// Tables and metadata can be made of its objects.
    shapes: bool,
}

impl Offer {
    /// Objects of a resource. Custom resources have no protobuf form, but their metadata has.
    pub fn of(def: &ResourceDef) -> Self {
        // Reviews and the like are answers, not objects: there is nothing to make rows of.
        Offer { protobuf: !def.custom, shapes: def.storage.is_some() }
    }

    /// The objects of a route, or of its subresource.
    pub fn for_route(def: &ResourceDef, route: &ResourceRoute) -> Self {
        let subresource = route.subresource.as_deref().and_then(|name| def.subresource(name));
        match subresource {
            Some(subresource) if subresource.schema.is_some() => Offer::PLAIN,
            Some(_) | None => Offer::of(def),
        }
    }

    /// Bodies of another kind than the resource's own, as `Scale`, and errors.
    pub const PLAIN: Offer = Offer { protobuf: true, shapes: false };

    /// Objects of a built-in kind, stored or not.
    pub const BUILT_IN: Offer = Offer { protobuf: true, shapes: true };

    /// What is made when it is asked for, and has no protobuf form here.
    pub const COMPUTED: Offer = Offer { protobuf: false, shapes: true };

    fn shape(self, clause: &Clause<'_>, media: Media) -> Option<Shape> {
        let Some((kind, group, version)) = clause.asked_shape() else {
            return (media != Media::Protobuf || self.protobuf).then_some(Shape::Object);
        };
        let version = match (group, version) {
            ("meta.k8s.io", "v1") => MetaVersion::V1,
            ("meta.k8s.io", "v1beta1") => MetaVersion::V1Beta1,
            _ => return None,
        };
        match kind {
            _ if !self.shapes => None,
            "Table" => (media != Media::Protobuf).then_some(Shape::Table(version)),
            "PartialObjectMetadata" => Some(Shape::Metadata(version)),
            "PartialObjectMetadataList" => Some(Shape::MetadataList(version)),
            _ => None,
        }
    }

    fn media_types(self, stream: bool) -> String {
        let offered = Media::ALL.into_iter().filter(|media| *media != Media::Protobuf || self.protobuf);
        let types: Vec<String> = match stream {
            true => offered
                .filter(|m| m.streams())
                .map(|m| m.content_type().to_owned() + ";stream=watch")
                .collect(),
            false => offered.map(|m| m.content_type().to_owned()).collect(),
        };
        types.join(", ")
    }
}

/// What of the client's wishes is written, or a 406 that tells what can be.
pub fn accepted(headers: &HeaderMap, query: &Query, offer: Offer) -> Result<Accepted, Status> {
    negotiate(headers, query, offer).ok_or_else(|| not_acceptable(offer, false))
}

/// The same for the events of a watch.
pub fn accepted_stream(headers: &HeaderMap, query: &Query, offer: Offer) -> Result<Accepted, Status> {
    negotiate(headers, query, offer)
        .filter(|accepted| accepted.media.streams())
        .ok_or_else(|| not_acceptable(offer, true))
}

/// How an error is written: as the client likes it, or else as JSON.
pub fn accepted_error(headers: &HeaderMap, query: Option<&str>) -> Accepted {
    let query = query.filter(|query| query.contains("pretty")).unwrap_or_default();
    negotiate(headers, &Query::parse(query), Offer::PLAIN).unwrap_or(Accepted::JSON)
}

fn negotiate(headers: &HeaderMap, query: &Query, offer: Offer) -> Option<Accepted> {
    let header = match headers.get(ACCEPT) {
        // A header that is no text names nothing that could be written.
        Some(header) => header.to_str().ok()?,
        None => "",
    };
    let (pretty, gzip) = (is_pretty(headers, query), takes_gzip(headers));
    if header.is_empty() {
        return Some(Accepted { pretty, gzip, ..Accepted::JSON });
    }
    accept::parse(header).iter().find_map(|clause| {
        Media::ALL.into_iter().filter(|media| clause.allows(media.content_type())).find_map(|media| {
            if clause.stream().is_some_and(|stream| stream != "watch" || !media.streams()) {
                return None;
            }
            let shape = offer.shape(clause, media)?;
            Some(Accepted { shape, media, pretty: pretty || clause.pretty(), gzip })
        })
    })
}

fn not_acceptable(offer: Offer, stream: bool) -> Status {
    let types = offer.media_types(stream);
    Status::failure(406, "NotAcceptable", format!("only the following media types are accepted: {types}"))
}

/// Whether `pretty` asks for indentation, or else a program that people look at.
fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(asked) = query.get("pretty") {
        return matches!(asked, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|browser| agent.starts_with(browser))
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|header| header.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|encoding| encoding.trim() == "gzip")
}

/// The format of a request's body; JSON where the client does not say.
pub fn body_format(headers: &HeaderMap) -> Result<BodyFormat, Status> {
    match media_type(headers) {
        "" | "application/json" => Ok(BodyFormat::Json),
        "application/yaml" => Ok(BodyFormat::Yaml),
        protobuf::MEDIA_TYPE => Ok(BodyFormat::Protobuf),
        _ => Err(Status::unsupported_media_type(&Offer::PLAIN.media_types(false))),
    }
}

/// The format of a patch.
pub fn patch_kind(headers: &HeaderMap) -> Result<PatchKind, Status> {
    let kinds = [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic, PatchKind::Apply];
    let sent = media_type(headers);
    kinds
        .into_iter()
        .find(|kind| kind.content_type() == sent)
        .ok_or_else(|| Status::unsupported_media_type(&kinds.map(PatchKind::content_type).join(", ")))
}

fn media_type(headers: &HeaderMap) -> &str {
    let header = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests;
