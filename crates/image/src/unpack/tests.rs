use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

/// A tar stream that says whatever a test wants.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Layer(Builder::new(Vec::new()))
    }

    fn raw(mut self, kind: EntryType, path: &[u8], link: &[u8], data: &[u8], mode: u32) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        let fields = header.as_gnu_mut().unwrap();
        // Straight into the fields: the library's setters refuse hostile names.
        fields.name[..path.len()].copy_from_slice(path);
        fields.linkname[..link.len()].copy_from_slice(link);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.raw(EntryType::Regular, path.as_bytes(), b"", data.as_bytes(), 0o644)
    }

    fn directory(self, path: &str, mode: u32) -> Self {
        self.raw(EntryType::Directory, path.as_bytes(), b"", b"", mode)
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Symlink, path.as_bytes(), target.as_bytes(), b"", 0o777)
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Link, path.as_bytes(), target.as_bytes(), b"", 0o644)
    }

    fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.0.append_pax_extensions([(key, value)]).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A directory to unpack into, beside something that must not change.
struct Yard {
    outer: tempfile::TempDir,
    lowers: Vec<PathBuf>,
}

impl Yard {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("canary")).unwrap();
        fs::write(outer.path().join("canary/file"), "safe").unwrap();
        Yard { outer, lowers: Vec::new() }
    }

    fn root(&self) -> PathBuf {
        self.outer.path().join("root")
    }

    fn unpack(&self, tar: &[u8], limits: &Limits) -> Result<u64, UnpackError> {
        self.unpack_blob(tar, &Digest::of(tar), limits)
    }

    fn unpack_blob(&self, blob: &[u8], diff_id: &Digest, limits: &Limits) -> Result<u64, UnpackError> {
        fs::create_dir(self.root()).unwrap();
        let result = unpack_layer(blob, diff_id, &self.root(), &self.lowers, limits);
        self.assert_unharmed();
        result
    }

    fn assert_unharmed(&self) {
        let canary = self.outer.path().join("canary");
        assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "safe");
        assert_eq!(fs::metadata(canary.join("file")).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 1);
        let mut names: Vec<_> =
            fs::read_dir(self.outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| !name.to_string_lossy().starts_with("lower"));
        names.sort();
        assert_eq!(names, ["canary", "root"]);
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }
}

fn good(layer: Layer) -> Yard {
    let yard = Yard::new();
    yard.unpack(&layer.bytes(), &Limits::default()).unwrap();
    yard
}

fn bad(layer: Layer) -> UnpackError {
    Yard::new().unpack(&layer.bytes(), &Limits::default()).unwrap_err()
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path).unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0_u8; 8];
    rfs::getxattr(path, OPAQUE, &mut value).is_ok_and(|length| &value[..length] == b"y")
}

#[test]
fn files_come_out_with_all_their_metadata() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let mut layer = Layer::new()
        .directory("./", 0o755)
        .directory("tmp/", 0o1777)
        .raw(EntryType::Regular, b"usr/bin/su", b"", b"#!", 0o4755)
        .pax("SCHILY.xattr.security.capability", &capability)
        .file("usr/bin/ping", "x")
        .pax("SCHILY.xattr.trusted.overlay.redirect", b"/etc")
        .file("steered", "x")
        .pax("mtime", b"1700000000.5")
        .file("timed", "x")
        .hard_link("usr/bin/sudo", "usr/bin/su")
        .symlink("sh", "usr/bin/su")
        .raw(EntryType::Char, b"dev/null", b"", b"", 0o666)
        .raw(EntryType::Fifo, b"pipe", b"", b"", 0o600);
    let mut header = Header::new_gnu();
    header.set_mode(0o600);
    header.set_uid(1234);
    header.set_gid(4321);
    header.set_size(4);
    layer.0.append_data(&mut header, &long, &b"long"[..]).unwrap();
    let yard = good(layer);
    let metadata = |path: &str| fs::symlink_metadata(yard.root().join(path)).unwrap();
    assert_eq!(metadata("tmp").permissions().mode() & 0o7777, 0o1777);
    assert_eq!(metadata("tmp").mtime(), 1_000_000);
    assert_eq!(metadata("usr/bin/su").permissions().mode() & 0o7777, 0o4755);
    assert_eq!(metadata("usr/bin/su").ino(), metadata("usr/bin/sudo").ino());
    assert_eq!(fs::read_link(yard.root().join("sh")).unwrap(), Path::new("usr/bin/su"));
    assert_eq!((metadata("timed").mtime(), metadata("timed").mtime_nsec()), (1_700_000_000, 500_000_000));
    assert_eq!(metadata("dev/null").rdev(), rfs::makedev(1, 3));
    assert!(metadata("pipe").file_type().is_fifo());
    assert_eq!((metadata(&long).uid(), metadata(&long).gid()), (1234, 4321));
    assert_eq!(yard.read(&long), "long");
    let mut value = [0_u8; 64];
    let length = rfs::getxattr(yard.root().join("usr/bin/ping"), "security.capability", &mut value).unwrap();
    assert_eq!(&value[..length], capability);
    let steered = rfs::getxattr(yard.root().join("steered"), "trusted.overlay.redirect", &mut value);
    assert_eq!(steered, Err(Errno::NODATA));
}

#[test]
fn parent_references_are_refused() {
    let outside = |error: UnpackError| assert!(matches!(error, UnpackError::Outside { .. }), "{error}");
    outside(bad(Layer::new().file("../canary/file", "bad")));
    outside(bad(Layer::new().file("a/../../canary/file", "bad")));
    outside(bad(Layer::new().file("/../canary/new", "bad")));
    outside(bad(Layer::new().directory("..", 0o777)));
    outside(bad(Layer::new().symlink("../x", "y")));
    outside(bad(Layer::new().hard_link("x", "../canary/file")));
    outside(bad(Layer::new().file("../canary/.wh.file", "")));
    outside(bad(Layer::new().file(".wh...", "")));
    outside(bad(Layer::new().file("a/.wh..", "")));
    outside(bad(Layer::new().file(".wh.", "")));
    outside(bad(Layer::new().pax("path", b"../canary/file").file("x", "bad")));
    outside(bad(Layer::new().pax("linkpath", b"../canary/file").hard_link("x", "y")));
}

#[test]
fn absolute_paths_and_links_stay_below_the_root() {
    let outer = "/tmp/../../../../../..";
    let yard = good(
        Layer::new()
            .file("/etc/a", "1")
            .symlink("up", "../../../../canary")
            .file("up/file", "2")
            .symlink("root", outer)
            .file("root/b", "3")
            .symlink("etc/deep", "/up")
            .file("etc/deep/c", "4")
            .symlink("gone", "/canary/new")
            .file("gone", "5")
            .file("up/.wh.other", ""),
    );
    assert_eq!(yard.read("etc/a"), "1");
    assert_eq!(yard.read("canary/file"), "2");
    assert_eq!(yard.read("b"), "3");
    assert_eq!(yard.read("canary/c"), "4");
    assert_eq!(yard.read("gone"), "5");
    assert!(is_whiteout(&yard.root().join("canary/other")));
}

#[test]
fn links_cannot_reach_outside() {
    let error = bad(Layer::new().symlink("l", "../canary").hard_link("x", "l/file"));
    assert!(matches!(error, UnpackError::Entry { .. }), "{error}");
    let error = bad(Layer::new().hard_link("x", "/proc/self/exe"));
    assert!(matches!(error, UnpackError::Entry { .. }), "{error}");
    let error = bad(Layer::new().symlink("a", "b").symlink("b", "a").file("a/x", ""));
    assert!(matches!(error, UnpackError::Entry { .. }), "{error}");
    // The link itself gets the second name, and still leads nowhere.
    let yard = good(Layer::new().symlink("l", "../canary/file").hard_link("x", "l").file("x", "own"));
    assert_eq!(yard.read("x"), "own");
}

#[test]
fn whiteouts_become_overlayfs_ones() {
    let yard = good(
        Layer::new()
            .file("etc/.wh.passwd", "")
            .directory("var/", 0o755)
            .file("var/.wh..wh..opq", "")
            .file("var/new", "n")
            .file(".wh..wh.plnk", "")
            .file(".wh.data", "")
            .file("data/new", "d")
            .file("kept/file", "k")
            .file(".wh.kept", ""),
    );
    assert!(is_whiteout(&yard.root().join("etc/passwd")));
    assert!(is_opaque(&yard.root().join("var")));
    assert_eq!(yard.read("var/new"), "n");
    assert!(is_opaque(&yard.root().join("data")));
    assert_eq!(yard.read("kept/file"), "k");
    assert!(is_opaque(&yard.root().join("kept")));
    assert!(!yard.root().join(".wh..wh.plnk").exists());
}

#[test]
fn implied_parents_are_like_those_below() {
    let mut yard = Yard::new();
    let lower = yard.outer.path().join("lower");
    fs::create_dir_all(lower.join("tmp")).unwrap();
    fs::create_dir_all(lower.join("usr/lib")).unwrap();
    fs::set_permissions(lower.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(lower.join("usr/lib/shared"), "below").unwrap();
    std::os::unix::fs::symlink("usr/lib", lower.join("lib")).unwrap();
    yard.lowers.push(lower.clone());
    let layer = Layer::new().file("tmp/x", "").file("lib/y", "y").hard_link("usr/z", "usr/lib/shared");
    yard.unpack(&layer.bytes(), &Limits::default()).unwrap();
    assert_eq!(fs::metadata(yard.root().join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    assert_eq!(yard.read("usr/lib/y"), "y");
    assert_eq!(yard.read("usr/z"), "below");
    assert_eq!(yard.read("usr/lib/shared"), "below");
    assert_eq!(fs::metadata(lower.join("usr/lib/shared")).unwrap().nlink(), 1);
}

#[test]
fn the_last_of_several_entries_wins() {
    let yard = good(
        Layer::new()
            .file("a", "1")
            .file("a", "2")
            .directory("b/", 0o755)
            .file("b/in", "")
            .file("b", "file")
            .symlink("c", "a")
            .directory("c/", 0o700)
            .directory("c/", 0o750)
            .file("c/in", "x"),
    );
    assert_eq!((yard.read("a").as_str(), yard.read("b").as_str()), ("2", "file"));
    assert_eq!(yard.read("c/in"), "x");
    assert_eq!(fs::metadata(yard.root().join("c")).unwrap().permissions().mode() & 0o777, 0o750);
}

fn small() -> Limits {
    Limits {
        max_layer_bytes: 1 << 20,
        max_entries: 100,
        max_path_bytes: 300,
        max_depth: 10,
        max_header_bytes: 16 << 10,
        max_ratio: 20,
        ratio_slack_bytes: 64 << 10,
        ..Limits::default()
    }
}

fn check_limit(blob: &[u8], plain: &[u8], expected: fn(&LimitExceeded) -> bool) {
    match Yard::new().unpack_blob(blob, &Digest::of(plain), &small()) {
        Err(UnpackError::Limit(breach)) if expected(&breach) => {}
        other => panic!("{other:?}"),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bombs_stop_at_the_limits() {
    let zeros = "\0".repeat(900_000);
    let plain = Layer::new().file("zeros", &zeros).bytes();
    check_limit(&gzip(&plain), &plain, |limit| matches!(limit, LimitExceeded::Ratio(20)));
    check_limit(&zstd::encode_all(&plain[..], 19).unwrap(), &plain, |limit| {
        matches!(limit, LimitExceeded::Ratio(20))
    });
    // Padding after the end of the archive counts as well.
    let mut padded = Layer::new().file("a", "").bytes();
    padded.resize(4 << 20, 0);
    check_limit(&gzip(&padded), &padded, |limit| matches!(limit, LimitExceeded::Ratio(20)));
    let plain = Layer::new().file("big", &"x".repeat(2 << 20)).bytes();
    check_limit(&plain, &plain, |limit| matches!(limit, LimitExceeded::LayerBytes(_)));
    let many = (0..200).fold(Layer::new(), |layer, number| layer.file(&format!("f{number}"), ""));
    let plain = many.bytes();
    check_limit(&plain, &plain, |limit| matches!(limit, LimitExceeded::Entries(100)));
    let deep = Layer::new().file(&"d/".repeat(20), "").bytes();
    check_limit(&deep, &deep, |limit| matches!(limit, LimitExceeded::Depth(10)));
    // Each link leads deeper than any path may.
    let layer = Layer::new().directory("d/", 0o755).symlink("l", &"d/".repeat(12));
    let plain = layer.file("l/x", "").bytes();
    check_limit(&plain, &plain, |limit| matches!(limit, LimitExceeded::Depth(10)));
    let mut header = Header::new_gnu();
    header.set_size(0);
    let mut layer = Layer::new();
    layer.0.append_data(&mut header, "p".repeat(400), &b""[..]).unwrap();
    let plain = layer.bytes();
    check_limit(&plain, &plain, |limit| matches!(limit, LimitExceeded::PathBytes(300)));
    let plain = Layer::new().pax("comment", &[b'x'; 60_000]).file("a", "").bytes();
    check_limit(&plain, &plain, |limit| matches!(limit, LimitExceeded::HeaderBytes(_)));
}

#[test]
fn a_million_entries_end_at_the_entry_limit() {
    let limits = Limits { max_entries: 1_000, ..Limits::default() };
    let one = Layer::new().file("same", "").bytes();
    let block = &one[..512];
    let mut repeated = Repeated { block, left: 1_000_000 * 512 };
    let yard = Yard::new();
    fs::create_dir(yard.root()).unwrap();
    let result = unpack_layer(&mut repeated, &Digest::of(b""), &yard.root(), &[], &limits);
    assert!(matches!(result, Err(UnpackError::Limit(LimitExceeded::Entries(1_000)))), "{result:?}");
}

struct Repeated<'a> {
    block: &'a [u8],
    left: usize,
}

impl Read for Repeated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.left) / 512 * 512;
        buffer[..length].chunks_mut(512).for_each(|chunk| chunk.copy_from_slice(self.block));
        self.left -= length;
        Ok(length)
    }
}

#[test]
fn lying_sizes_are_refused() {
    for size in [&b"77777777777\0"[..], b"-0000000001\0", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf0"]
    {
        let mut tar = Layer::new().file("a", "").bytes();
        tar[124..136].copy_from_slice(size);
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&tar[..512]);
        header.set_cksum();
        tar[..512].copy_from_slice(header.as_bytes());
        let error = Yard::new().unpack(&tar, &Limits { max_layer_bytes: 1 << 30, ..Limits::default() });
        assert!(
            matches!(error, Err(UnpackError::Limit(_) | UnpackError::Stream(_) | UnpackError::Entry { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn sparse_files_stay_sparse_and_within_limits() {
    let sparse = |real: u64| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(4);
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..6].copy_from_slice(b"sparse");
        fields.realsize.copy_from_slice(format!("{real:011o}\0").as_bytes());
        fields.sparse[0].offset.copy_from_slice(format!("{:011o}\0", real - 4).as_bytes());
        fields.sparse[0].numbytes.copy_from_slice(b"00000000004\0");
        header.set_cksum();
        let mut layer = Layer::new();
        layer.0.append(&header, &b"tail"[..]).unwrap();
        layer.bytes()
    };
    let yard = Yard::new();
    yard.unpack(&sparse(1 << 20), &Limits::default()).unwrap();
    let metadata = fs::metadata(yard.root().join("sparse")).unwrap();
    assert_eq!(metadata.len(), 1 << 20);
    assert!(metadata.blocks() * 512 < 1 << 19);
    assert!(fs::read(yard.root().join("sparse")).unwrap().ends_with(b"\0tail"));
    let plain = sparse((8 << 30) - 1);
    check_limit(&plain, &plain, |limit| matches!(limit, LimitExceeded::LayerBytes(_)));
    let plain = sparse(1 << 19);
    check_limit(&plain, &plain, |limit| matches!(limit, LimitExceeded::Ratio(_)));
}

#[test]
fn damaged_and_exchanged_content_is_refused() {
    let plain = Layer::new().file("a", &"x".repeat(10_000)).bytes();
    let wrong = Digest::of(b"other");
    let error = Yard::new().unpack_blob(&plain, &wrong, &Limits::default()).unwrap_err();
    assert!(matches!(error, UnpackError::Digest { .. }), "{error}");
    for blob in [plain[..5_000].to_vec(), gzip(&plain)[..40].to_vec(), vec![7; 600], b"\x1f\x8bnot".to_vec()]
    {
        let result = Yard::new().unpack_blob(&blob, &Digest::of(&plain), &Limits::default());
        assert!(matches!(result, Err(UnpackError::Stream(_))), "{result:?}");
    }
    for blob in [gzip(&plain), zstd::encode_all(&plain[..], 3).unwrap()] {
        let size = Yard::new().unpack_blob(&blob, &Digest::of(&plain), &Limits::default()).unwrap();
        assert_eq!(size, 10_000);
    }
}

fn any_path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "l",
        "..",
        ".",
        "",
        "canary",
        "file",
        ".wh.a",
        ".wh.l",
        ".wh..wh..opq",
        ".wh...",
        "root",
    ]);
    (any::<bool>(), prop::collection::vec(part, 1..5))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")))
}

fn any_entry() -> impl Strategy<Value = (u8, String, String)> {
    (prop::sample::select(b"0123456755522211SLKxgZ".to_vec()), any_path(), any_path())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_archive_writes_outside(entries in prop::collection::vec(any_entry(), 1..12)) {
        let mut layer = Layer::new();
        // Valid entries before the first refused one must not escape either.
        for (kind, path, link) in &entries {
            let data = if *kind == b'0' { &b"data"[..] } else { b"" };
            layer = layer.raw(EntryType::new(*kind), path.as_bytes(), link.as_bytes(), data, 0o755);
        }
        let _ = Yard::new().unpack(&layer.bytes(), &small());
    }

    #[test]
    fn damaged_archives_are_answered(
        flips in prop::collection::vec((0..3_000_usize, any::<u8>()), 1..10),
        fix_checksums in any::<bool>(),
    ) {
        let mut tar = Layer::new()
            .directory("d/", 0o755).symlink("d/l", "../..").file("d/l/f", "data").hard_link("h", "d/l/f")
            .bytes();
        for (at, byte) in flips {
            let at = at % tar.len();
            tar[at] = byte;
        }
        if fix_checksums {
            for block in tar.chunks_exact_mut(512) {
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        let _ = Yard::new().unpack(&tar, &small());
    }
}
