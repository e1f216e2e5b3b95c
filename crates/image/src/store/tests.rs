use std::path::PathBuf;

use super::catalogue::image_files;
use super::*;
use crate::image::ImageConfig;
use crate::pack::PackSource;
use crate::rootfs::{remove_rootfs, unmount_rootfs};

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Fixture { dir: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> ImageStore {
        ImageStore::open(&self.dir.path().join("store")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn source(&self, content: &str) -> PackSource {
        let path = self.path("source");
        fs::create_dir_all(path.join("bin")).unwrap();
        fs::write(path.join("bin/app"), content).unwrap();
        PackSource::Directory(path)
    }

    async fn pack(&self, store: &ImageStore, name: &str, content: &str) -> Image {
        let name = Reference::parse(name).unwrap();
        store.pack(self.source(content), &name, ImageConfig::default()).await.unwrap()
    }

    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for part in ["blobs/sha256", "layers", "staging"] {
            for entry in fs::read_dir(self.path("store").join(part)).unwrap() {
                files.push(format!("{part}/{}", entry.unwrap().file_name().display()));
            }
        }
        files
    }
}

#[tokio::test]
async fn packed_image_is_found_by_every_name_and_survives_reopening() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let image = fixture.pack(&store, "shop/cart:1", "one").await;
    let digest_name = format!("shop/cart@{}", image.manifest);
    for name in ["shop/cart:1", &digest_name, &image.id.to_string(), &image.id.hex()[..12]] {
        assert_eq!(store.find(name).unwrap().as_ref(), Some(&image), "{name}");
    }
    assert_eq!(store.find("shop/cart:2").unwrap(), None);
    assert!(matches!(ImageStore::open(&fixture.path("store")), Err(StoreError::Locked(_))));
    drop(store);
    assert_eq!(fixture.store().list(), vec![image]);
}

#[tokio::test]
async fn equal_content_packs_to_an_equal_image() {
    let (first, second) = (Fixture::new(), Fixture::new());
    let one = first.pack(&first.store(), "a", "same").await;
    let two = second.pack(&second.store(), "a", "same").await;
    assert_eq!(one, two);
}

#[tokio::test]
async fn a_name_moves_to_the_image_packed_last() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let old = fixture.pack(&store, "a:1", "old").await;
    let new = fixture.pack(&store, "a:1", "new").await;
    assert_eq!(store.find("a:1").unwrap().unwrap().id, new.id);
    assert_eq!(store.find(&old.id.to_string()).unwrap().unwrap().names, Vec::<String>::new());
    let removed = store.prune(PruneScope::Unnamed).await.unwrap();
    assert_eq!(removed.images, vec![old.id]);
    assert_eq!(store.list().len(), 1);
}

#[tokio::test]
async fn leased_image_stays_and_a_removed_one_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let image = fixture.pack(&store, "a:1", "x").await;
    let lease = store.lease(&image.id).unwrap();
    assert!(matches!(store.remove("a:1").await, Err(StoreError::InUse { leases: 1, .. })));
    assert_eq!(store.prune(PruneScope::Unused).await.unwrap(), Removed::default());
    drop(lease);
    let removed = store.remove("a:1").await.unwrap();
    assert_eq!(removed.names, vec!["docker.io/library/a:1"]);
    assert_eq!(removed.images, vec![image.id.clone()]);
    assert_eq!(fixture.files(), Vec::<String>::new());
    assert!(matches!(store.remove("a:1").await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.lease(&image.id), Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn images_share_layers_until_the_last_one_goes() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fixture.pack(&store, "a:1", "x").await;
    let config = ImageConfig { cmd: vec!["other".to_owned()], ..ImageConfig::default() };
    let name = Reference::parse("a:2").unwrap();
    let second = store.pack(fixture.source("x"), &name, config).await.unwrap();
    store.remove("a:1").await.unwrap();
    for path in store.layer_dirs(&second) {
        assert!(path.join("bin/app").exists());
    }
    drop(store);
    let store = fixture.store();
    store.remove("a:2").await.unwrap();
    assert_eq!(fixture.files(), Vec::<String>::new());
}

#[tokio::test]
async fn opening_removes_what_an_interrupted_import_left() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let image = fixture.pack(&store, "a:1", "x").await;
    drop(store);
    let before = fixture.files();
    let root = fixture.path("store");
    fs::create_dir_all(root.join("staging/7/fs")).unwrap();
    fs::write(root.join("blobs/sha256").join("f".repeat(64)), "half").unwrap();
    fs::create_dir_all(root.join("layers").join("e".repeat(64)).join("fs")).unwrap();
    fs::write(root.join("images.json.new"), "{\"half").unwrap();
    let store = fixture.store();
    assert_eq!(fixture.files(), before);
    assert_eq!(store.list(), vec![image]);
}

#[tokio::test]
async fn damaged_catalogue_is_an_error_and_not_an_empty_store() {
    let fixture = Fixture::new();
    drop(fixture.store());
    fs::write(fixture.path("store/images.json"), "{").unwrap();
    let opened = ImageStore::open(&fixture.path("store"));
    assert!(matches!(opened, Err(StoreError::Catalogue { .. })));
}

/// Unmounts also when the test fails.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.join("rootfs"), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn rootfs_is_writable_idempotent_and_keeps_what_was_written() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let image = fixture.pack(&store, "a:1", "x").await;
    let dir = fixture.path("container");
    let _guard = Mounted(dir.clone());
    let rootfs = store.prepare_rootfs(&image, &dir, false).await.unwrap();
    assert_eq!(fs::read_to_string(rootfs.join("bin/app")).unwrap(), "x");
    fs::write(rootfs.join("bin/app"), "changed").unwrap();
    assert_eq!(store.prepare_rootfs(&image, &dir, false).await.unwrap(), rootfs);
    unmount_rootfs(&dir).await.unwrap();
    unmount_rootfs(&dir).await.unwrap();
    assert!(!rootfs.join("bin").exists());
    store.prepare_rootfs(&image, &dir, true).await.unwrap();
    assert_eq!(fs::read_to_string(rootfs.join("bin/app")).unwrap(), "changed");
    assert!(fs::write(rootfs.join("bin/app"), "no").is_err());
    remove_rootfs(&dir).await.unwrap();
    assert!(!dir.exists());
    for path in store.layer_dirs(&image) {
        assert_eq!(fs::read_to_string(path.join("bin/app")).unwrap(), "x");
    }
}

const CRASH_DIR: &str = "SAMPAN_IMAGE_CRASH_DIR";

/// Packs images until it is killed, and says so after each.
async fn pack_forever(dir: &Path) {
    let store = ImageStore::open(&dir.join("store")).unwrap();
    let source = dir.join("source");
    fs::create_dir_all(&source).unwrap();
    for number in store.list().len().. {
        fs::write(source.join("file"), number.to_string().repeat(1000)).unwrap();
        let name = Reference::parse(&format!("crash:{number}")).unwrap();
        let packed = store.pack(PackSource::Directory(source.clone()), &name, ImageConfig::default()).await;
        packed.unwrap();
        println!("\npacked {name}");
    }
}

/// This process is killed at any moment: what was acknowledged is there and whole, nothing else is.
#[tokio::test]
async fn killed_imports_leave_whole_images_only() {
    use std::io::BufRead;
    if let Some(dir) = std::env::var_os(CRASH_DIR) {
        return pack_forever(Path::new(&dir)).await;
    }
    let fixture = Fixture::new();
    for acknowledged in [1, 2, 5, 3] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::killed_imports_leave_whole_images_only", "--exact", "--nocapture"])
            .env(CRASH_DIR, fixture.dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let packed = lines.filter_map(|line| line.strip_prefix("packed ").map(str::to_owned));
        let packed: Vec<_> = packed.take(acknowledged).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(packed.len(), acknowledged);
        let store = fixture.store();
        for name in &packed {
            assert!(store.find(name).unwrap().is_some(), "{name}");
        }
        let mut expected = HashSet::new();
        for image in store.list() {
            for (kind, digest) in image_files(&image) {
                let path = store.inner.path(kind, &digest);
                assert!(path.exists(), "{}", path.display());
                expected.insert(path);
            }
            let number = image.names[0].rsplit_once(':').unwrap().1;
            let content = fs::read_to_string(store.layer_dirs(&image)[0].join("file")).unwrap();
            assert_eq!(content, number.repeat(1000));
        }
        assert_eq!(fixture.files().len(), expected.len());
    }
}
