//! The encrypting store, over the embedded one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sampan_storage::encryption::{
    EncryptedStore, Encryption, GroupResource, KeyFile, Provider, Rules, holds_local_values,
};
use sampan_storage::testing::{conformance, take};
use sampan_storage::{Options, RedbStore, Store, StoreError, Write};
use tempfile::TempDir;

mod plugin;

use plugin::Plugin;

/// `/secrets/…` is of the resource `secrets`, and so is what no test of limits writes.
fn resource_of(key: &str) -> GroupResource {
    let large = ["/large", "/heavy", "/many", "k"].iter().any(|prefix| key.starts_with(prefix));
    GroupResource::parse(if large || key.starts_with("/maps/") { "configmaps" } else { "secrets" })
}

struct Fixture {
    dir: TempDir,
    inner: Arc<dyn Store>,
    encryption: Arc<Encryption>,
    store: Arc<EncryptedStore>,
}

impl Fixture {
    fn new(rules: Rules, local: Option<&Arc<Provider>>) -> Self {
        let dir = TempDir::new().expect("a directory");
        let store = RedbStore::open(dir.path().join("store"), Options::default()).expect("opens");
        let inner: Arc<dyn Store> = Arc::new(store);
        let encryption = Encryption::new(Box::new(resource_of), rules, local);
        let store = Arc::new(EncryptedStore::new(inner.clone(), encryption.clone()));
        Fixture { dir, inner, encryption, store }
    }

    /// What is stored under a key, as it is on disk.
    async fn stored(&self, key: &str) -> Vec<u8> {
        self.inner.get(key).await.expect("works").expect("exists").value.to_vec()
    }

    async fn read(&self, key: &str) -> Result<String, StoreError> {
        let entry = self.store.get(key).await?.expect("exists");
        Ok(String::from_utf8(entry.value.to_vec()).expect("text"))
    }

    async fn set(&self, rules: &str) {
        self.encryption.set(parse(rules), None).await;
    }
}

fn parse(providers: &str) -> Rules {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [{providers}]\n"
    );
    Rules::parse(&text, None).expect("valid")
}

fn aes(keys: &[(&str, u8)]) -> String {
    use base64::Engine as _;
    let key = |(name, byte): &(&str, u8)| {
        let secret = base64::engine::general_purpose::STANDARD.encode([*byte; 32]);
        format!("{{name: {name}, secret: {secret}}}")
    };
    format!("{{aesgcm: {{keys: [{}]}}}}", keys.iter().map(key).collect::<Vec<_>>().join(", "))
}

fn local(dir: &Path) -> (KeyFile, Arc<Provider>) {
    let keys = KeyFile::create(&dir.join("keys.json")).expect("writes");
    let provider = Arc::new(keys.provider());
    (keys, provider)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let dir = TempDir::new().expect("a directory");
    let (_, provider) = local(dir.path());
    conformance(Fixture::new(Rules::one("secrets", &provider), Some(&provider)).store).await;
}

#[tokio::test]
async fn values_are_stored_in_upstreams_form() {
    let fixture = Fixture::new(parse(&aes(&[("a", 1)])), None);
    fixture.store.commit(Write::put("/secrets/x", "plain")).await.expect("works");
    fixture.store.commit(Write::put("/maps/x", "plain")).await.expect("works");
    let stored = fixture.stored("/secrets/x").await;
    let data = stored.strip_prefix(b"k8s:enc:aesgcm:v1:a:").expect("the prefix");
    assert_eq!(data.len(), 12 + "plain".len() + 16);
    assert_eq!(fixture.stored("/maps/x").await, b"plain");
    assert_eq!(fixture.read("/secrets/x").await.expect("reads"), "plain");
    // The key is authenticated: a value cannot be moved.
    fixture.inner.commit(Write::put("/secrets/y", stored)).await.expect("works");
    let error = fixture.read("/secrets/y").await.expect_err("moved").to_string();
    assert_eq!(error, "unable to transform key \"/secrets/y\": cipher: message authentication failed");
}

#[tokio::test]
async fn other_keys_and_providers_are_read_and_replaced() {
    let fixture = Fixture::new(parse("{identity: {}}"), None);
    let providers = [
        "{identity: {}}".to_owned(),
        format!("{}, {{identity: {{}}}}", aes(&[("a", 1)])),
        format!("{}, {{identity: {{}}}}", aes(&[("b", 2), ("a", 1)])),
        format!("{}, {}, {{identity: {{}}}}", aes(&[("a", 3)]), aes(&[("b", 2), ("a", 1)])),
        format!("{{identity: {{}}}}, {}", aes(&[("a", 3)])),
    ];
    for (index, rules) in providers.iter().enumerate() {
        fixture.set(rules).await;
        let key = format!("/secrets/{index}");
        fixture.store.commit(Write::put(key, "plain")).await.expect("works");
    }
    fixture.set(&format!("{}, {}, {{identity: {{}}}}", aes(&[("a", 3)]), aes(&[("b", 2), ("a", 1)]))).await;
    for index in 0..providers.len() {
        assert_eq!(fixture.read(&format!("/secrets/{index}")).await.expect("reads"), "plain");
    }
    let done = fixture.store.rewrite().await.expect("works");
    assert_eq!((done.seen, done.written), (5, 4), "all but what the first key had written");
    assert_eq!(fixture.store.rewrite().await.expect("works").written, 0);
    fixture.set(&aes(&[("a", 3)])).await;
    for index in 0..providers.len() {
        assert_eq!(fixture.read(&format!("/secrets/{index}")).await.expect("reads"), "plain");
    }
    let check = async |rules: &str, expected: &str| {
        fixture.set(rules).await;
        let error = fixture.read("/secrets/0").await.expect_err("no key").to_string();
        assert!(error.ends_with(expected), "{error}");
    };
    check(&aes(&[("c", 3)]), "no matching key was found for the provided AES transformer").await;
    check(&aes(&[("a", 4)]), "cipher: message authentication failed").await;
    check("{identity: {}}", "no matching prefix found").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_load_leaves_nothing_under_the_old_key() {
    let dir = TempDir::new().expect("a directory");
    let (keys, provider) = local(dir.path());
    let fixture = Fixture::new(Rules::one("secrets", &provider), Some(&provider));
    let first = fixture.store.commit(Write::put("/secrets/idle", "idle")).await.expect("works");
    let mut watch = fixture.store.watch("/secrets/", first).await.expect("current");
    let stop = Arc::new(AtomicBool::new(false));
    let (written, mut count_seen) = tokio::sync::watch::channel(0);
    // 200 writes a second, each acknowledged value noted.
    let writer = {
        let (store, stop) = (fixture.store.clone(), stop.clone());
        tokio::spawn(async move {
            let mut known = BTreeMap::new();
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            for number in 0u64.. {
                tick.tick().await;
                if stop.load(Ordering::Relaxed) {
                    return (known, number);
                }
                let (key, value) = (format!("/secrets/{}", number % 50), format!("value {number}"));
                store.commit(Write::put(key.as_str(), value.clone())).await.expect("never fails");
                known.insert(key, value);
                written.send_replace(number);
            }
            unreachable!("it is stopped");
        })
    };
    let mut keys = keys;
    for _ in 0..3 {
        let old = keys.names().next().expect("has one").to_owned();
        keys = keys.with_new_key().expect("writes");
        let both = Arc::new(keys.provider());
        fixture.encryption.set(Rules::one("secrets", &both), Some(&both)).await;
        assert!(fixture.store.rewrite().await.expect("works").written > 0);
        keys = keys.without_old_keys().expect("writes");
        let new = Arc::new(keys.provider());
        fixture.encryption.set(Rules::one("secrets", &new), Some(&new)).await;
        let old = format!("k8s:enc:sampan:v1:{old}:");
        for entry in fixture.inner.list("/secrets/").await.expect("works").entries {
            assert!(!entry.value.starts_with(old.as_bytes()), "{} is under the old key", entry.key);
        }
        // Every key is written under this one before the next one comes.
        let before = *count_seen.borrow_and_update();
        count_seen.wait_for(|count| *count >= before + 50).await.expect("the writer goes on");
    }
    stop.store(true, Ordering::Relaxed);
    let (known, count) = writer.await.expect("does not panic");
    assert!(count > 100, "{count} writes");
    for (key, value) in known {
        assert_eq!(fixture.read(&key).await.expect("reads"), value);
    }
    // A watch that was there all along saw every write, plain.
    let mut seen = Vec::new();
    while seen.len() < count as usize {
        let events = take(&mut watch, 1).await;
        let texts = events.iter().map(|event| String::from_utf8(event.value.to_vec()).expect("plain"));
        for text in texts.filter(|text| text.starts_with("value ")) {
            // A rewrite repeats the value that is there.
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
    }
    let expected: Vec<String> = (0..count).map(|number| format!("value {number}")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn the_key_file_is_needed_for_what_it_encrypted() {
    let dir = TempDir::new().expect("a directory");
    let (_, provider) = local(dir.path());
    let fixture = Fixture::new(Rules::one("secrets", &provider), Some(&provider));
    assert!(!holds_local_values(&*fixture.inner).await.expect("works"));
    fixture.store.commit(Write::put("/secrets/x", "plain")).await.expect("works");
    assert!(holds_local_values(&*fixture.inner).await.expect("works"));
    let (other, provider) = {
        let other = TempDir::new().expect("a directory");
        local(other.path())
    };
    fixture.encryption.set(Rules::one("secrets", &provider), Some(&provider)).await;
    let error = fixture.read("/secrets/x").await.expect_err("another key").to_string();
    assert!(error.contains("which is not in the key file"), "{error}");
    drop(other);
    // With a configuration of one's own, the key file's values are still read.
    let keys = KeyFile::read(&dir.path().join("keys.json")).expect("valid").expect("there");
    let local = Arc::new(keys.provider());
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: ['*.*']\n  providers: [{}]\n",
        aes(&[("a", 1)])
    );
    let rules = Rules::parse(&text, Some(&local)).expect("valid");
    fixture.encryption.set(rules, Some(&local)).await;
    assert_eq!(fixture.read("/secrets/x").await.expect("reads"), "plain");
    assert_eq!(fixture.store.rewrite().await.expect("works").written, 1);
    assert!(fixture.stored("/secrets/x").await.starts_with(b"k8s:enc:aesgcm:v1:a:"));
}

#[tokio::test]
async fn a_watch_waits_for_the_key_of_what_it_cannot_read() {
    let fixture = Fixture::new(parse(&aes(&[("a", 1)])), None);
    let mut watch = fixture.store.watch("/", 0).await.expect("current");
    fixture.store.commit(Write::put("/secrets/x", "plain")).await.expect("works");
    fixture.store.commit(Write::put("/maps/x", "plain")).await.expect("works");
    fixture.set(&aes(&[("b", 2)])).await;
    assert!(watch.try_next().is_none(), "what cannot be read is not left out");
    let waited = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
    assert!(waited.is_err(), "nothing overtakes it");
    assert!(fixture.encryption.failure().expect("is told").contains("/secrets/x"));
    fixture.set(&aes(&[("b", 2), ("a", 1)])).await;
    let events = take(&mut watch, 2).await;
    assert_eq!(events.iter().map(|event| &event.value[..]).collect::<Vec<_>>(), [b"plain", b"plain"]);
    assert_eq!(fixture.encryption.failure(), None);
}

#[tokio::test]
async fn a_plugin_keeps_the_key() {
    let dir = TempDir::new().expect("a directory");
    let socket = dir.path().join("kms.sock");
    let plugin = Plugin::start(&socket, "key-1");
    let rules = format!(
        "{{kms: {{apiVersion: v2, name: vault, endpoint: 'unix://{}', timeout: 1m}}}}",
        socket.display()
    );
    let fixture = Fixture::new(parse(&rules), None);
    let kms = fixture.encryption.rules().kms[0].clone();
    let write = async |key: &str| fixture.store.commit(Write::put(key, "plain")).await;
    let error = write("/secrets/early").await.expect_err("no key yet").to_string();
    assert!(error.contains("not asked yet"), "{error}");
    kms.probe().await.expect("healthy");
    for index in 0..20 {
        write(&format!("/secrets/{index}")).await.expect("works");
        assert_eq!(fixture.read(&format!("/secrets/{index}")).await.expect("reads"), "plain");
    }
    assert_eq!((plugin.encrypts(), plugin.decrypts()), (1, 0), "one seed for all of them");
    assert!(fixture.stored("/secrets/0").await.starts_with(b"k8s:enc:kms:v2:vault:\x0a"));

    // Another key: a new seed for what is written, the old one for what is there.
    plugin.set_key("key-2");
    kms.probe().await.expect("healthy");
    write("/secrets/new").await.expect("works");
    assert_eq!(fixture.store.rewrite().await.expect("works").written, 20);
    assert_eq!((plugin.encrypts(), plugin.decrypts()), (2, 0));

    // Another server knows no seed, and asks once for each.
    let second = EncryptedStore::new(
        fixture.inner.clone(),
        Encryption::new(Box::new(resource_of), parse(&rules), None),
    );
    assert_eq!(second.list("/secrets/").await.expect("reads").entries[0].value, "plain");
    assert_eq!(plugin.decrypts(), 1);

    // A plugin that fails: what is known is read and written on for a while.
    plugin.fail(Some("sealed"));
    let error = kms.probe().await.expect_err("unhealthy");
    assert!(error.contains("code = Unavailable desc = sealed"), "{error}");
    assert!(fixture.encryption.failure().expect("is told").starts_with("kms-provider-0: "));
    write("/secrets/new").await.expect("coasts");
    let third = EncryptedStore::new(
        fixture.inner.clone(),
        Encryption::new(Box::new(resource_of), parse(&rules), None),
    );
    let error = third.get("/secrets/new").await.expect_err("needs the plugin").to_string();
    assert!(error.contains("failed to decrypt DEK, error: rpc error"), "{error}");
    plugin.fail(None);
    kms.probe().await.expect("healthy again");
    assert_eq!(fixture.encryption.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn writing_ends_three_minutes_after_the_plugin_was_last_well() {
    let dir = TempDir::new().expect("a directory");
    let socket = dir.path().join("kms.sock");
    let _plugin = Plugin::start(&socket, "key-1");
    let rules = format!(
        "{{kms: {{apiVersion: v2, name: vault, endpoint: 'unix://{}', timeout: 1h}}}}",
        socket.display()
    );
    let fixture = Fixture::new(parse(&rules), None);
    let kms = fixture.encryption.rules().kms[0].clone();
    kms.probe().await.expect("healthy");
    fixture.store.commit(Write::put("/secrets/x", "plain")).await.expect("works");
    tokio::time::advance(Duration::from_secs(179)).await;
    fixture.store.commit(Write::put("/secrets/x", "plain")).await.expect("works");
    tokio::time::advance(Duration::from_secs(2)).await;
    let error = fixture.store.commit(Write::put("/secrets/x", "plain")).await.expect_err("expired");
    assert!(error.to_string().contains("expired"), "{error}");
    assert_eq!(fixture.read("/secrets/x").await.expect("reading goes on"), "plain");
    kms.probe().await.expect("healthy");
    fixture.store.commit(Write::put("/secrets/x", "plain")).await.expect("works again");
    drop(fixture.dir);
}
