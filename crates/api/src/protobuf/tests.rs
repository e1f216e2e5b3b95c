use proptest::prelude::*;
use serde_json::json;

use super::wire::{put_bytes, put_tag, put_varint};
use super::*;

mod kinds;

/// Objects as Kubernetes' own encoder writes them: JSON, then the message in hexadecimal digits.
const GOLDEN: &str = include_str!("golden.txt");

fn golden() -> impl Iterator<Item = (Value, Vec<u8>)> {
    GOLDEN.split("\n\n").filter(|one| !one.trim().is_empty()).map(|one| {
        let (json, hex) = one.trim().split_once('\n').expect("JSON, then digits");
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(text, 16).expect("digits")
        };
        (serde_json::from_str(json).expect("JSON"), digits.chunks(2).map(byte).collect())
    })
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("a string")
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    put_bytes(&mut out, 1, &type_meta);
    put_bytes(&mut out, 2, raw);
    out
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, content);
    out
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_tag(&mut out, number, Wire::Varint);
    put_varint(&mut out, value);
    out
}

#[test]
fn messages_are_those_of_kubernetes() {
    let mut count = 0;
    for (value, bytes) in golden() {
        let (api_version, kind) = (text_of(&value, "apiVersion"), text_of(&value, "kind"));
        assert_eq!(encode(api_version, kind, &value).expect(kind), bytes, "{kind}");
        if let Ok(writer) = ObjectWriter::new(api_version, kind) {
            let direct = writer.enveloped(value.to_string().as_bytes()).expect(kind);
            assert_eq!(direct, bytes, "{kind}: straight from its bytes");
        }
        if !kind.ends_with("List") {
            let decoded = decode(&bytes, None, &Limits::default()).expect(kind);
            assert_eq!(decoded, (api_version.to_owned(), kind.to_owned(), value.clone()));
        }
        count += 1;
    }
    assert_eq!(count, 10);
}

#[test]
fn every_kind_comes_back_from_nothing() {
    for (api_version, kind, _) in Table::builtin().all() {
        let bytes = envelope(api_version, kind, &[]);
        // A part of a union, not a kind.
        if kind.starts_with("JSONSchemaPropsOr") {
            continue;
        }
        let (_, _, value) = decode(&bytes, None, &Limits::default()).expect(kind);
        let again = encode(api_version, kind, &value).expect(kind);
        assert_eq!(decode(&again, None, &Limits::default()).expect(kind).2, value, "{kind}");
    }
}

#[test]
fn every_served_kind_is_known() {
    for def in crate::table::Table::builtin().entries() {
        assert!(knows(&def.gvr.api_version(), &def.kind), "{} {}", def.gvr.api_version(), def.kind);
    }
}

#[test]
fn parts_in_any_order_make_one_message() {
    let check = |kind: &str, parts: &[Vec<u8>], expected: Value| {
        let (_, _, mut value) = decode(&envelope("v1", kind, &parts.concat()), None, &Limits::default())
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        let object = value.as_object_mut().expect("an object");
        object.remove("kind");
        object.remove("apiVersion");
        assert_eq!(value, expected);
    };
    // Metadata in two parts; the last scalar wins.
    check(
        "ConfigMap",
        &[field(1, &field(1, b"old")), field(1, &[field(3, b"n"), field(1, b"new")].concat())],
        json!({"metadata": {"name": "new", "namespace": "n"}}),
    );
    // An entry of a map without key and value; bytes that are no UTF-8.
    check("ConfigMap", &[field(2, b"")], json!({"metadata": {}, "data": {"": ""}}));
    check("ConfigMap", &[field(2, &field(2, b"\xff"))], json!({"metadata": {}, "data": {"": "\u{fffd}"}}));
    // A fixed32, a fixed64, a group with a group inside, all unknown.
    let unknown =
        [0xfd, 0x3f, 1, 2, 3, 4, 0xf9, 0x3f, 1, 2, 3, 4, 5, 6, 7, 8, 0xfb, 0x3f, 0xfb, 0x3f, 0xfc, 0x3f];
    check(
        "DeleteOptions",
        &[unknown.to_vec(), vec![0xfc, 0x3f], varint(1, u64::MAX), field(5, b"All")],
        json!({"gracePeriodSeconds": -1, "dryRun": ["All"]}),
    );
}

#[test]
fn repeated_numbers_may_be_packed() {
    let packed = field(4, &[1, 0xac, 2]);
    let plain = [varint(4, 1), varint(4, 300)].concat();
    for groups in [packed, plain] {
        // PodSpec.securityContext is field 14 of field 2.
        let bytes = envelope("v1", "Pod", &field(2, &field(14, &groups)));
        let (_, _, pod) = decode(&bytes, None, &Limits::default()).expect("a pod");
        assert_eq!(pod["spec"]["securityContext"], json!({"supplementalGroups": [1, 300]}));
    }
}

#[test]
fn the_route_names_what_the_message_does_not() {
    let bytes = envelope("", "", &field(1, &field(1, b"a")));
    let default = Some(("v1", "ConfigMap"));
    let (api_version, kind, value) = decode(&bytes, default, &Limits::default()).expect("a config map");
    assert_eq!((api_version.as_str(), kind.as_str()), ("v1", "ConfigMap"));
    assert_eq!(value, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
    // Options are spoken in every version, as Kubernetes registers them in each.
    assert!(decode(&envelope("apps/v1", "DeleteOptions", b""), None, &Limits::default()).is_ok());
}

#[test]
fn faults_are_told() {
    let metadata = |content: &[u8]| envelope("v1", "ConfigMap", &field(1, content));
    let quota = |quantity: &[u8]| {
        let entry = [field(1, b"cpu"), field(2, &field(1, quantity))].concat();
        envelope("v1", "ResourceQuota", &field(2, &field(1, &entry)))
    };
    let long = u64::MAX >> 1;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "empty data"),
        (b"k8s\0".to_vec(), "empty body"),
        (b"{}".to_vec(), "provided data does not appear to be a protobuf message"),
        (b"k8s\0\x0a".to_vec(), "unexpected EOF"),
        (b"k8s\0\x0a\x05".to_vec(), "unexpected EOF"),
        (
            envelope("v1", "", b""),
            "Object 'Kind' is missing in 'runtime.TypeMeta{APIVersion:\"v1\", Kind:\"\"}'",
        ),
        (envelope("", "Pod", b""), "Object 'apiVersion' is missing in"),
        (envelope("x.io/v1", "A", b""), "no kind \"A\" is registered for version \"x.io/v1\""),
        (metadata(&[0]), "proto: ObjectMeta: illegal tag 0 (wire type 0)"),
        (metadata(&[0x0c]), "proto: ObjectMeta: wiretype end group for non-group"),
        (metadata(&[0x0f]), "proto: illegal wireType 7"),
        (metadata(&varint(1, 1)), "proto: wrong wireType = 0 for field name"),
        (metadata(&[0x38, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), "proto: integer overflow"),
        (metadata(&[&[0x0a][..], &[255; 9], &[1]].concat()), "proto: negative length found during"),
        (metadata(&[vec![0x0a], varint(1, long)[1..].to_vec()].concat()), "unexpected EOF"),
        (metadata(&[0xfb, 0x3f]), "unexpected EOF"),
        (metadata(&field(8, &varint(1, long))), "is outside the years 1 to 9999"),
        (quota(b"1x"), "quantities must match the regular expression"),
        (envelope("apps/v1", "ControllerRevision", &field(2, &field(1, b"{"))), "json parse error"),
        (vec![0; (3 << 20) + 1], "Request entity too large: limit is 3145728"),
    ];
    for (bytes, expected) in cases {
        let error = decode(&bytes, None, &Limits::default()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} has no {expected:?}");
    }
    let mistyped = json!({"data": {"a": 1}});
    assert!(matches!(
        encode("v1", "ConfigMap", &mistyped),
        Err(ProtobufError::Mistyped { message: "ConfigMap", field: "data" })
    ));
    assert!(matches!(encode("x.io/v1", "AList", &json!({})), Err(ProtobufError::Unregistered { .. })));
}

#[test]
fn limits_hold() {
    // Two bytes for a container that is three values.
    let many = field(2, &[0x12, 0].repeat(300_000));
    let decoded = decode(&envelope("v1", "Pod", &many), None, &Limits::default());
    assert!(matches!(decoded, Err(ProtobufError::TooMany { .. })));

    // JSONSchemaProps.not inside each other, in a version of a CRD.
    let nested = |levels: usize| {
        let schema = (0..levels).fold(Vec::new(), |inner, _| field(28, &inner));
        let version = field(4, &field(1, &schema));
        envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &field(2, &field(7, &version)))
    };
    assert!(decode(&nested(100), None, &Limits::default()).is_ok());
    assert!(matches!(decode(&nested(10_000), None, &Limits::default()), Err(ProtobufError::Depth)));
    // Free JSON below counts too: alone it would pass.
    let json = format!("{}{}", "[".repeat(119), "]".repeat(119));
    let revision = envelope("apps/v1", "ControllerRevision", &field(2, &field(1, json.as_bytes())));
    assert!(decode(&revision, None, &Limits::default()).is_ok());
    let json = format!("[{json}]");
    let revision = envelope("apps/v1", "ControllerRevision", &field(2, &field(1, json.as_bytes())));
    assert!(matches!(decode(&revision, None, &Limits::default()), Err(ProtobufError::Depth)));

    // A message in very many parts would be copied again and again.
    let parts = field(1, &field(1, b"0123456789")).repeat(20_000);
    let decoded = decode(&envelope("v1", "ConfigMap", &parts), None, &Limits::default());
    assert!(matches!(decoded, Err(ProtobufError::TooLarge { .. })));
}

#[test]
fn a_bad_table_is_told_by_its_line() {
    for (text, line) in [
        (":A\n", None),
        ("@p v1\n:A\n 1 a s\n", None),
        ("@p v1\n:A\n 2 a s\n 1 b s\n", Some(4)),
        ("@p v1\n 1 a s\n", Some(2)),
        ("@p v1\n:A\n 1 a .B\n", Some(3)),
        ("@p v1\n:A\n 1 ^ s\n", Some(3)),
        ("x\n", Some(1)),
    ] {
        assert_eq!(table::parse(text).err(), line.map(table::BadLine), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..10_000) {
        let (kinds, table): (Vec<_>, _) = (Table::builtin().all().collect(), Table::builtin());
        let (api_version, kind, id) = kinds[at % kinds.len()];
        let bytes = envelope(api_version, kind, &raw);
        if let Ok((_, _, value)) = decode(&bytes, None, &Limits::default())
            && !table.message(id).is_union
        {
            encode(api_version, kind, &value).expect("what was decoded can be encoded");
        }
    }

    #[test]
    fn damaged_messages_are_read_or_refused(which in 0_usize..10, at in any::<usize>(), byte in any::<u8>()) {
        let (_, mut bytes) = golden().nth(which).expect("ten messages");
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok((api_version, kind, value)) = decode(&bytes, None, &Limits::default()) {
            encode(&api_version, &kind, &value).expect("what was decoded can be encoded");
        }
        bytes.truncate(at);
        let _ = decode(&bytes, None, &Limits::default());
    }
}
