//! Bodies in YAML: what is decoded is what its JSON decodes to.

use bytes::Bytes;
use sampan_apiserver::registry::{Body, BodyFormat, decode_applied, decode_value};

pub fn run(data: &[u8]) {
    let body = |format| Body { bytes: Bytes::copy_from_slice(data), format };
    let json = decode_value(&body(BodyFormat::Json));
    let yaml = decode_value(&body(BodyFormat::Yaml));
    let applied = decode_applied(&body(BodyFormat::Yaml));
    if let Ok(yaml) = &yaml {
        let written = serde_json::to_vec(&yaml.value).expect("a value is JSON");
        let again = decode_value(&Body { bytes: written.into(), format: BodyFormat::Json });
        assert_eq!(again.expect("what was decoded can be read again").value, yaml.value);
    }
    if let Ok((value, repeated)) = &applied {
        assert!(repeated.len() <= 10, "{repeated:?}");
        if let Ok(json) = &json
            && json.value.is_object()
        {
            assert_eq!(&json.value, value, "JSON is applied as it is");
        }
    }
}
