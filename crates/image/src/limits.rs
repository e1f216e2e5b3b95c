//! How much one archive may ask of this machine.

/// Bounds on what comes from outside. The defaults admit every image that containers run in
/// practice, and are far below what would hurt a machine by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one layer, uncompressed.
    pub max_layer_bytes: u64,
    /// Bytes of all layers of one image, uncompressed.
    pub max_image_bytes: u64,
    /// Files, directories and links in one layer, implied parents included.
    pub max_entries: u64,
    /// Bytes of one path in a layer.
    pub max_path_bytes: usize,
    /// Directories above one file.
    pub max_depth: usize,
    /// Bytes of long names and extended attributes of one entry, which are held in memory.
    pub max_header_bytes: u64,
    /// Uncompressed bytes may exceed the compressed ones this many times, plus `ratio_slack_bytes`.
    pub max_ratio: u64,
    pub ratio_slack_bytes: u64,
    /// overlayfs takes 500 lower directories.
    pub max_layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_layer_bytes: 64 << 30,
            max_image_bytes: 128 << 30,
            max_entries: 2_000_000,
            max_path_bytes: 4095,
            max_depth: 256,
            max_header_bytes: 1 << 20,
            max_ratio: 200,
            ratio_slack_bytes: 1 << 30,
            max_layers: 400,
        }
    }
}

/// The limit that an archive exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    #[error("more than {0} bytes in one layer")]
    LayerBytes(u64),
    #[error("more than {0} bytes in one image")]
    ImageBytes(u64),
    #[error("more than {0} entries in one layer")]
    Entries(u64),
    #[error("a path of more than {0} bytes")]
    PathBytes(usize),
    #[error("more than {0} directories deep")]
    Depth(usize),
    #[error("more than {0} bytes of headers for one entry")]
    HeaderBytes(u64),
    #[error("the content is more than {0} times as large as its compressed form")]
    Ratio(u64),
    #[error("more than {0} layers")]
    Layers(usize),
}
