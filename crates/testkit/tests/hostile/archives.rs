//! Image archives that try to write elsewhere, or everything.

use std::io::Write as _;
use std::path::PathBuf;

use sampan_testkit::{Cluster, Output};
use sha2::{Digest as _, Sha256};

use super::bounded;

/// A tar archive, entry by entry: the usual writers refuse what is needed here.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn entry(mut self, name: &str, kind: u8, link: &str, content: &[u8]) -> Archive {
        self.header(name, kind, link, content.len() as u64);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn header(&mut self, name: &str, kind: u8, link: &str, size: u64) {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000755");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&header);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An OCI archive with one layer.
fn image(layer: &[u8], media_type: &str, diff: &str) -> Vec<u8> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff}"]}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[{{"mediaType":"{media_type}","digest":"sha256:{}","size":{}}}]}}"#,
        digest(config.as_bytes()),
        config.len(),
        digest(layer),
        layer.len()
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"example.com/evil:1"}}}}]}}"#,
        digest(manifest.as_bytes()),
        manifest.len()
    );
    let mut archive = Archive::default().entry("oci-layout", b'0', "", br#"{"imageLayoutVersion":"1.0.0"}"#);
    archive = archive.entry("index.json", b'0', "", index.as_bytes());
    for blob in [config.as_bytes(), manifest.as_bytes(), layer] {
        archive = archive.entry(&format!("blobs/sha256/{}", digest(blob)), b'0', "", blob);
    }
    archive.end()
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

fn import(cluster: &Cluster, archive: &[u8]) -> Output {
    let file = cluster.scratch().join("archive.tar");
    std::fs::write(&file, archive).expect("the scratch directory can be written");
    let (data, file) = (cluster.data_dir(), file.to_str().expect("text").to_owned());
    cluster.sampan(&["image", "import", "--data-dir", data.to_str().expect("text"), &file])
}

fn import_layer(cluster: &Cluster, layer: Vec<u8>) -> Output {
    import(cluster, &image(&layer, TAR, &digest(&layer)))
}

/// Where an entry that climbs out would land, on this machine.
fn witness(cluster: &Cluster) -> PathBuf {
    cluster.scratch().join("escaped")
}

pub fn escapes(cluster: &mut Cluster) {
    let witness = witness(cluster);
    let absolute = witness.to_str().expect("text").to_owned();
    let up = format!("{}{}", "../".repeat(12), absolute.trim_start_matches('/'));
    let hard = |to: &str| Archive::default().entry("hard", b'1', to, b"");
    let scratch = cluster.scratch().to_str().expect("text").to_owned();
    // Refused by name, or nothing: then it stayed inside of the image.
    let layers = [
        ("parent directories", Archive::default().entry(&up, b'0', "", b"evil"), "would be outside the root"),
        ("an absolute path", Archive::default().entry(&absolute, b'0', "", b"evil"), ""),
        (
            "a link to the outside",
            Archive::default().entry("out", b'2', &scratch, b"").entry("out/escaped", b'0', "", b"evil"),
            "",
        ),
        (
            "a link up",
            Archive::default().entry("a", b'5', "", b"").entry("a/out", b'2', &"../".repeat(20), b"").entry(
                &format!("a/out{absolute}"),
                b'0',
                "",
                b"evil",
            ),
            "",
        ),
        (
            "a hard link to the outside",
            hard("/etc/hostname").entry("hard", b'0', "", b"evil"),
            "cannot copy \"/etc/hostname\": No such file",
        ),
        ("a hard link up", hard(&format!("{}etc/hostname", "../".repeat(8))), "would be outside the root"),
    ];
    let hostname = std::fs::read("/etc/hostname").ok();
    for (what, layer, refusal) in layers {
        let output = import_layer(cluster, layer.end());
        assert!(!witness.exists(), "{what} climbed out\n{output}");
        assert_eq!(std::fs::read("/etc/hostname").ok(), hostname, "{what}");
        if refusal.is_empty() {
            output.ok()
        } else {
            output.fails().says(&[refusal])
        };
    }
    // Blobs and names of the outer archive do no more.
    let outer =
        Archive::default().entry(&up, b'0', "", b"evil").entry("index.json", b'2', "/etc/passwd", b"").end();
    import(cluster, &outer).fails().says(&["neither a docker archive (no manifest.json) nor an OCI layout"]);
    assert!(!witness.exists());
    // Another content than its digest.
    let layer = Archive::default().entry("file", b'0', "", b"good").end();
    let honest = image(&layer, TAR, &digest(&layer));
    let place = honest.windows(4).position(|window| window == b"good").expect("it is in there");
    let mut forged = honest.clone();
    forged[place..place + 4].copy_from_slice(b"evil");
    import(cluster, &forged).fails().says(&["sha256:"]);
    import(cluster, &honest).ok();
    import(cluster, b"nonsense").fails().says(&["cannot read the archive: "]);
    import(cluster, &honest[..honest.len() / 2]).fails().says(&["cannot read the archive: unexpected EOF"]);
}

pub fn bombs(cluster: &mut Cluster) {
    bounded(cluster, 256, || {
        // A sparse promise: a header that names more bytes than follow.
        let mut cut = Archive::default();
        cut.header("huge", b'0', "", 1 << 32);
        import_layer(cluster, cut.0).fails().says(&["the tar stream is damaged: unexpected end of file"]);
        // Compressed: 1 MB that unpacks to 1 GB, a thousand times over in one stream.
        let layer = gzip_of_zeros(20 << 30);
        let output =
            import(cluster, &image(&layer, "application/vnd.oci.image.layer.v1.tar+gzip", &"0".repeat(64)));
        output.fails().says(&["the content is more than 200 times as large as its compressed form\n"]);
        // One directory in another, thousands deep.
        let mut deep = Archive::default();
        for depth in 1..40 {
            deep = deep.entry(&"d/".repeat(depth), b'5', "", b"");
        }
        let long = "d/".repeat(2000);
        let record = format!("{} path={long}\n", long.len() + 11);
        deep = deep.entry("pax", b'x', "", record.as_bytes()).entry("d", b'5', "", b"");
        import_layer(cluster, deep.end()).fails().says(&["directories deep"]);
    });
    let unpacked =
        cluster.run(&["du", "-s", "--block-size=1M", cluster.data_dir().to_str().expect("text")]).ok();
    let mib: u64 =
        unpacked.text().split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
    assert!(mib < 256, "the data directory holds {mib} MiB of what was refused");
}

/// One member of a tar archive of so many zero bytes, compressed with gzip.
fn gzip_of_zeros(bytes: u64) -> Vec<u8> {
    let mut header = Archive::default();
    header.header("zeros", b'0', "", bytes.min(0o77_777_777_777 - 1));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&header.0).expect("memory");
    let mut all = encoder.finish().expect("memory");
    // Members of gzip may follow each other: the same mebibytes, again and again.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 16 << 20]).expect("memory");
    let member = encoder.finish().expect("memory");
    for _ in 0..bytes.min(8 << 30) / (16 << 20) {
        all.extend_from_slice(&member);
    }
    all
}
