use super::*;
use crate::route::Query;

const BUILTIN: Offer = Offer { protobuf: true, shapes: true };
const CUSTOM: Offer = Offer { protobuf: false, shapes: true };

fn headers(accept: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, accept.parse().expect("a header"));
    headers
}

/// `shape media`, or the types that the 406 names.
fn check(offer: Offer, accept: &str, expected: &str) {
    let actual = match accepted(&headers(accept), &Query::default(), offer) {
        Ok(Accepted { shape, media, .. }) => format!("{shape:?} {media:?}"),
        Err(status) => {
            assert_eq!((status.code, status.reason.as_str()), (406, "NotAcceptable"));
            status.message.replace("only the following media types are accepted: ", "406 ")
        }
    };
    assert_eq!(actual, expected, "{accept}");
}

#[test]
fn the_best_clause_that_can_be_written_is_taken() {
    let all = "406 application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let old_table = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    check(BUILTIN, &format!("{table},{old_table},application/json"), "Table(V1) Json");
    check(BUILTIN, &format!("{old_table},application/json"), "Table(V1Beta1) Json");
    check(BUILTIN, "application/json;as=Table;v=v2;g=meta.k8s.io,application/json", "Object Json");
    check(BUILTIN, "application/json;as=Table", all);
    check(BUILTIN, "application/yaml;as=Table;v=v1;g=meta.k8s.io", "Table(V1) Yaml");
    check(BUILTIN, "application/vnd.kubernetes.protobuf, application/json", "Object Protobuf");
    check(BUILTIN, "application/vnd.kubernetes.protobuf;q=0.5, application/json", "Object Json");
    check(BUILTIN, "*/*;q=0.5, application/yaml;q=0.5", "Object Yaml");
    check(BUILTIN, "*/*", "Object Json");
    check(BUILTIN, "*", "Object Json");
    check(BUILTIN, "application/*", "Object Json");
    check(BUILTIN, "text/*", all);
    check(BUILTIN, "", "Object Json");
    check(BUILTIN, ",", all);
    check(BUILTIN, "application/cbor", all);
    check(BUILTIN, "application/vnd.kubernetes.protobuf;stream=watch", "Object Protobuf");
    check(BUILTIN, "application/json;stream=other", all);
    // Tables have no protobuf form; a range finds the next type that has.
    let protobuf = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
    check(BUILTIN, protobuf, all);
    check(BUILTIN, &format!("{protobuf},application/json"), "Object Json");
    let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    check(BUILTIN, metadata, "Metadata(V1) Protobuf");
}

#[test]
fn custom_resources_have_no_protobuf_but_their_metadata_has() {
    let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    check(CUSTOM, metadata, "MetadataList(V1) Protobuf");
    check(CUSTOM, "application/vnd.kubernetes.protobuf,application/json", "Object Json");
    check(CUSTOM, "application/vnd.kubernetes.protobuf", "406 application/json, application/yaml");
}

#[test]
fn streams_are_not_written_as_yaml() {
    let status =
        accepted_stream(&headers("application/yaml"), &Query::default(), BUILTIN).expect_err("a 406");
    assert_eq!(
        status.message,
        "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    );
}

#[test]
fn people_get_indentation() {
    let check = |agent: &'static str, query: &str, expected: bool| {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, agent.parse().expect("a header"));
        let accepted = accepted(&headers, &Query::parse(query), BUILTIN).expect("JSON");
        assert_eq!(accepted.pretty, expected, "{agent} {query}");
    };
    check("curl/8", "", true);
    check("curl/8", "pretty=0", false);
    check("kubectl/v1", "", false);
    check("kubectl/v1", "pretty=true", true);
    check("kubectl/v1", "pretty=maybe", false);
}

#[test]
fn bodies_are_of_three_types() {
    let check = |sent: &'static str, expected: Option<BodyFormat>| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, sent.parse().expect("a header"));
        assert_eq!(body_format(&headers).ok(), expected, "{sent}");
    };
    check("application/json; charset=utf-8", Some(BodyFormat::Json));
    check("application/vnd.kubernetes.protobuf", Some(BodyFormat::Protobuf));
    check("application/yaml", Some(BodyFormat::Yaml));
    check("text/plain", None);
    check("application/cbor", None);
}

#[test]
fn a_review_has_no_rows() {
    let table = sampan_api::table::Table::builtin();
    let of = |name| Offer::of(table.by_name(name).expect("built in"));
    let rows = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let all = "406 application/json, application/yaml, application/vnd.kubernetes.protobuf";
    check(of("pods"), rows, "Table(V1) Json");
    check(of("selfsubjectaccessreviews"), rows, all);
    check(of("selfsubjectaccessreviews"), "application/json", "Object Json");
}
