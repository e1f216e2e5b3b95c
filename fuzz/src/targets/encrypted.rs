//! Stored values that are encrypted, and the configuration that says how.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use sampan_storage::encryption::aes_gcm::Seed;
use sampan_storage::encryption::kms::messages::EncryptedObject;
use sampan_storage::encryption::provider::Named;
use sampan_storage::encryption::{Encryption, GroupResource, Provider, Rules};

use crate::input;

const KEY: &str = "/registry/secrets/default/a";

/// One that has a key file's keys, and AES keys.
static ENCRYPTION: LazyLock<Arc<Encryption>> = LazyLock::new(|| {
    let seed = Seed::new(&[7; 32]).expect("long enough");
    let local = Arc::new(Provider::Local(vec![Named { name: "k".to_owned(), key: seed }]));
    let rules = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
        - resources: [secrets]\n  providers:\n  - aesgcm: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}\n\
        \x20 - kms: {apiVersion: v2, name: p, endpoint: 'unix:///nowhere/at-all'}\n  - identity: {}\n";
    let rules = Rules::parse(rules, Some(&local)).expect("valid");
    Encryption::new(Box::new(|_| GroupResource::parse("secrets")), rules, Some(&local))
});

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    match choice % 3 {
        0 => stored(rest),
        1 => {
            if let Ok(object) = EncryptedObject::decode(rest) {
                let mut again = Vec::new();
                object.source.encode(&object.data, &mut again);
                assert_eq!(EncryptedObject::decode(&again), Ok(object));
            }
        }
        _ => {
            if let Some(text) = input::text(rest) {
                let _ = Rules::parse(text, None);
            }
        }
    }
}

/// Only what nobody encrypted is read without a key that was used.
fn stored(bytes: &[u8]) {
    let value = Bytes::copy_from_slice(bytes);
    // A plugin's answer would be waited for; everything else is there at once.
    if bytes.starts_with(b"k8s:enc:kms:v2:p:") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    match runtime.block_on(ENCRYPTION.read(KEY, &value)) {
        Ok(opened) => assert!(opened.value == value && !bytes.starts_with(b"k8s:enc:"), "{opened:?}"),
        Err(error) => assert!(bytes.starts_with(b"k8s:enc:"), "{error}"),
    }
}
