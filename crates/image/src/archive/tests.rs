use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::digest::Digest;
use crate::image::{Image, ImageConfig, host_architecture};
use crate::limits::Limits;
use crate::pack::PackSource;
use crate::rootfs::remove_rootfs;

struct Fixture {
    dir: tempfile::TempDir,
    store: ImageStore,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("store")).unwrap();
        Fixture { dir, store }
    }

    async fn import(&self, archive: Vec<u8>) -> Result<Vec<String>, ImportError> {
        self.store.import(Cursor::new(archive), ImportOptions::default()).await
    }

    fn get(&self, name: &str) -> Image {
        self.store.find(name).unwrap().unwrap()
    }

    fn assert_empty(&self) {
        assert_eq!(self.store.list(), vec![]);
        for part in ["blobs/sha256", "layers", "staging"] {
            let path = self.dir.path().join("store").join(part);
            assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "{}", path.display());
        }
    }

    async fn packed(&self) -> Image {
        let source = self.dir.path().join("source");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("app"), "content").unwrap();
        let config = ImageConfig {
            entrypoint: vec!["/app".to_owned()],
            env: vec!["A=b".to_owned()],
            user: "7:8".to_owned(),
            exposed_ports: vec!["80/tcp".to_owned()],
            labels: [("k".to_owned(), "v".to_owned())].into(),
            ..ImageConfig::default()
        };
        let name = Reference::parse("shop/app:1").unwrap();
        self.store.pack(PackSource::Directory(source), &name, config).await.unwrap()
    }
}

struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Archive(Builder::new(Vec::new()))
    }

    fn file(mut self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.as_ref().len() as u64);
        self.0.append_data(&mut header, name, bytes.as_ref()).unwrap();
        self
    }

    fn link(mut self, name: &str, target: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    fn blob(self, bytes: &[u8]) -> Self {
        self.file(&format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes)
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn layer(number: usize) -> Vec<u8> {
    Archive::new().file(&format!("f{number}"), number.to_string()).bytes()
}

fn config_for(architecture: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["x"], "Env": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [{"created_by": "test"}],
    });
    config.to_string().into_bytes()
}

fn docker_archive(layers: &[Vec<u8>]) -> Archive {
    let names: Vec<_> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["old/style:1"], "Layers": names}]);
    let mut archive = Archive::new();
    for (name, layer) in names.iter().zip(layers) {
        archive = archive.file(name, layer);
    }
    archive
        .file("config.json", config_for(host_architecture(), layers))
        .file("manifest.json", manifest.to_string())
}

/// An OCI layout of one index with one image per architecture.
fn layout(architectures: &[&str]) -> Archive {
    let mut archive = Archive::new().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut entries = Vec::new();
    for (number, architecture) in architectures.iter().enumerate() {
        let layers = [layer(number)];
        let config = config_for(architecture, &layers);
        let manifest = json!({"schemaVersion": 2,
            "config": {"digest": Digest::of(&config), "size": config.len()},
            "layers": [{"digest": Digest::of(&layers[0]), "size": layers[0].len()}]})
        .to_string();
        entries.push(json!({"digest": Digest::of(manifest.as_bytes()), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture}}));
        archive = archive.blob(&layers[0]).blob(&config).blob(manifest.as_bytes());
    }
    let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    let top = json!({"schemaVersion": 2, "manifests": [{"digest": Digest::of(index.as_bytes()),
        "size": index.len(), "annotations": {"org.opencontainers.image.ref.name": "multi:2"}}]});
    archive.blob(index.as_bytes()).file("index.json", top.to_string())
}

#[tokio::test]
async fn saved_images_import_as_they_were() {
    let fixture = Fixture::new();
    let image = fixture.packed().await;
    let saved = fixture.store.save(&["shop/app:1".to_owned()], Vec::new()).await.unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&saved).unwrap();
    let zstd = zstd::encode_all(&saved[..], 1).unwrap();
    for archive in [saved.clone(), gzip.finish().unwrap(), zstd] {
        let other = Fixture::new();
        assert_eq!(other.import(archive).await.unwrap(), ["docker.io/shop/app:1"]);
        assert_eq!(other.store.list(), vec![image.clone()]);
    }
    let unknown = fixture.store.save(&["none".to_owned()], Vec::new()).await;
    assert!(matches!(unknown, Err(SaveError::Store(StoreError::NotFound(_)))));
}

#[tokio::test]
async fn docker_archives_with_linked_layers_import() {
    let fixture = Fixture::new();
    let layers = [layer(0), layer(1), layer(0)];
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]);
    let archive = Archive::new()
        .file("a/layer.tar", &layers[0])
        .file("b/layer.tar", &layers[1])
        .link("c/layer.tar", "../a/layer.tar")
        .file("c.json", config_for(host_architecture(), &layers))
        .file("manifest.json", manifest.to_string())
        .bytes();
    let name = Reference::parse("given:3").unwrap();
    let unnamed = fixture.import(archive.clone()).await.unwrap();
    assert_eq!(fixture.get(&unnamed[0]).names, Vec::<String>::new());
    let options = ImportOptions { name: Some(name), progress: None };
    let named = fixture.store.import(Cursor::new(archive), options).await.unwrap();
    assert_eq!(named, ["docker.io/library/given:3"]);
    let image = fixture.get("given:3");
    assert_eq!((image.layers.len(), image.config.cmd.clone()), (3, vec!["x".to_owned()]));
    assert_eq!(fixture.store.list().len(), 1);
}

#[tokio::test]
async fn the_hosts_platform_is_chosen() {
    let fixture = Fixture::new();
    let names = fixture.import(layout(&["s390x", host_architecture(), "riscv64"]).bytes()).await.unwrap();
    assert_eq!(names, ["docker.io/library/multi:2"]);
    assert_eq!(fixture.get("multi:2").layers[0].diff_id, Digest::of(&layer(1)));
    let other = Fixture::new();
    let result = other.import(layout(&["s390x", "mips"]).bytes()).await;
    assert!(matches!(result, Err(ImportError::Manifest(ManifestError::NoPlatform { .. }))), "{result:?}");
    other.assert_empty();
}

async fn check_refused(archive: Vec<u8>, expected: fn(&ImportError) -> bool) {
    let fixture = Fixture::new();
    match fixture.import(archive).await {
        Err(error) if expected(&error) => {}
        other => panic!("{other:?}"),
    }
    fixture.assert_empty();
}

#[tokio::test]
async fn hostile_archives_are_refused_and_leave_nothing() {
    let is_missing = |error: &ImportError| matches!(error, ImportError::Missing(_));
    let is_json = |error: &ImportError| matches!(error, ImportError::Json { .. });
    let is_unknown = |error: &ImportError| matches!(error, ImportError::UnknownFormat);
    let is_layer = |error: &ImportError| matches!(error, ImportError::Install(InstallError::Layer { .. }));
    check_refused(Vec::new(), is_unknown).await;
    check_refused(Archive::new().file("x", "y").bytes(), is_unknown).await;
    check_refused(Archive::new().file("manifest.json", "{").bytes(), is_json).await;
    check_refused(Archive::new().file("index.json", "[]").bytes(), is_json).await;
    let outside = r#"[{"Config":"../../../../etc/passwd","Layers":[]}]"#;
    check_refused(Archive::new().file("manifest.json", outside).bytes(), is_missing).await;
    let linked = r#"[{"Config":"c","Layers":[]}]"#;
    let archive = Archive::new().link("c", "/etc/passwd").file("manifest.json", linked);
    check_refused(archive.bytes(), is_missing).await;
    let archive = Archive::new().link("c", "d").link("d", "c").file("manifest.json", linked);
    check_refused(archive.bytes(), is_missing).await;
    let whole = docker_archive(&[layer(0)]).bytes();
    check_refused(whole[..1_000].to_vec(), |error| matches!(error, ImportError::Read(_))).await;
    // The configuration promises other content.
    let exchanged = docker_archive(&[layer(0)]).file("0/layer.tar", layer(9)).bytes();
    check_refused(exchanged, is_layer).await;
    let name = format!("blobs/sha256/{}", Digest::of(&layer(0)).hex());
    check_refused(layout(&[host_architecture()]).file(&name, "other").bytes(), is_layer).await;
    let large = vec![b' '; (4 << 20) + 1];
    check_refused(Archive::new().file("manifest.json", large).bytes(), |error| {
        matches!(error, ImportError::TooLarge { .. })
    })
    .await;
    let bad_name = format!(r#"[{{"Config":"{}","RepoTags":["A B"],"Layers":[]}}]"#, "c");
    check_refused(Archive::new().file("c", "{}").file("manifest.json", bad_name).bytes(), |error| {
        matches!(error, ImportError::Name { .. })
    })
    .await;
    let none = r#"[{"Config":"c","Layers":["l"]}]"#;
    let config = config_for(host_architecture(), &[]);
    let archive = Archive::new().file("c", config).file("l", "").file("manifest.json", none);
    check_refused(archive.bytes(), |error| {
        matches!(error, ImportError::Install(InstallError::LayerCount { .. }))
    })
    .await;
}

#[tokio::test]
async fn archives_stop_at_the_limits() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { max_image_bytes: 1 << 20, max_layers: 3, ..Limits::default() };
    let store = ImageStore::open_with(&dir.path().join("store"), limits).unwrap();
    let import = |archive: Vec<u8>| store.import(Cursor::new(archive), ImportOptions::default());
    let zeros = zstd::encode_all(&Archive::new().file("z", vec![0; 8 << 20]).bytes()[..], 1).unwrap();
    assert!(matches!(import(zeros).await, Err(ImportError::Bytes(_))));
    let layers: Vec<_> = (0..4).map(layer).collect();
    let result = import(docker_archive(&layers).bytes()).await;
    assert!(matches!(result, Err(ImportError::Install(InstallError::Limit(_)))), "{result:?}");
}

/// Unmounts also when the test fails.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.join("rootfs"), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn images_of_very_many_layers_mount() {
    let fixture = Fixture::new();
    let mut layers: Vec<_> = (0..200).map(layer).collect();
    layers.push(Archive::new().file(".wh.f7", "").bytes());
    fixture.import(docker_archive(&layers).bytes()).await.unwrap();
    let dir = fixture.dir.path().join("container");
    let _guard = Mounted(dir.clone());
    let rootfs = fixture.store.prepare_rootfs(&fixture.get("old/style:1"), &dir, false).await.unwrap();
    assert_eq!(fs::read_to_string(rootfs.join("f0")).unwrap(), "0");
    assert_eq!(fs::read_to_string(rootfs.join("f199")).unwrap(), "199");
    assert!(!rootfs.join("f7").exists());
    remove_rootfs(&dir).await.unwrap();
}

#[tokio::test]
async fn one_image_that_is_broken_keeps_all_of_its_archive_out() {
    let fixture = Fixture::new();
    let image = |config: &str, layer: &str| json!({"Config": config, "RepoTags": null, "Layers": [layer]});
    let archive = |second: &[u8]| {
        Archive::new()
            .file("0.tar", layer(0))
            .file("1.tar", second)
            .file("0.json", config_for(host_architecture(), &[layer(0)]))
            .file("1.json", config_for(host_architecture(), &[layer(1)]))
            .file("manifest.json", json!([image("0.json", "0.tar"), image("1.json", "1.tar")]).to_string())
            .bytes()
    };
    let result = fixture.import(archive(&layer(2))).await;
    assert!(matches!(result, Err(ImportError::Install(InstallError::Layer { .. }))), "{result:?}");
    fixture.assert_empty();
    assert_eq!(fixture.import(archive(&layer(1))).await.unwrap().len(), 2);
    assert_eq!(fixture.store.list().len(), 2);
}
