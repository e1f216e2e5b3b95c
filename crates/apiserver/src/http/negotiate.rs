//! Content negotiation: what the client sends and what it can read.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use sampan_api::{Status, protobuf};
use sampan_client::PatchKind;

use crate::registry::BodyFormat;

/// The most media types of one `Accept` header that are looked at.
const MAX_ACCEPTED: usize = 64;

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The objects themselves.
    Object,
    /// `meta.k8s.io/v1` Table: what kubectl prints.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata.
    Metadata,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub shape: Shape,
    pub yaml: bool,
}

const JSON: Accepted = Accepted { shape: Shape::Object, yaml: false };

/// The first media type of `Accept` that this server can write. Protobuf is not one.
pub fn accepted(headers: &HeaderMap) -> Result<Accepted, Status> {
    let Some(header) = headers.get(ACCEPT) else { return Ok(JSON) };
    let header = header.to_str().map_err(|_| Status::bad_request("the Accept header is not text"))?;
    for media in header.split(',').take(MAX_ACCEPTED) {
        let mut parts = media.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let yaml = match kind {
            "application/json" | "*/*" | "application/*" | "" => false,
            "application/yaml" | "text/yaml" => true,
            _ => continue,
        };
        let (mut shape, mut version, mut group) = ("", "", "");
        for parameter in parts {
            match parameter.split_once('=') {
                Some(("as", value)) => shape = value,
                Some(("v", value)) => version = value,
                Some(("g", value)) => group = value,
                _ => {}
            }
        }
        let shape = match shape {
            "" => Shape::Object,
            "Table" if group == "meta.k8s.io" && version == "v1" => Shape::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList"
                if group == "meta.k8s.io" && version == "v1" =>
            {
                Shape::Metadata
            }
            _ => continue,
        };
        return Ok(Accepted { shape, yaml });
    }
    Err(Status::failure(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml",
    ))
}

/// The format of a request's body; JSON where the client does not say.
pub fn body_format(headers: &HeaderMap) -> Result<BodyFormat, Status> {
    match media_type(headers) {
        "" | "application/json" => Ok(BodyFormat::Json),
        "application/yaml" | "text/yaml" => Ok(BodyFormat::Yaml),
        protobuf::MEDIA_TYPE => Ok(BodyFormat::Protobuf),
        _ => Err(Status::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// The format of a patch.
pub fn patch_kind(headers: &HeaderMap) -> Result<PatchKind, Status> {
    let kinds = [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic];
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
mod tests {
    use super::*;

    #[test]
    fn the_first_media_type_that_can_be_written_is_taken() {
        let check = |accept: &'static str, expected: Option<Accepted>| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a header"));
            assert_eq!(accepted(&headers).ok(), expected, "{accept}");
        };
        let table = Accepted { shape: Shape::Table, yaml: false };
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(table));
        check("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Some(JSON));
        check("application/vnd.kubernetes.protobuf, application/json", Some(JSON));
        check("*/*", Some(JSON));
        check("application/yaml", Some(Accepted { shape: Shape::Object, yaml: true }));
        check("application/vnd.kubernetes.protobuf", None);
    }
}
