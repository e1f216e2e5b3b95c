//! All targets by name. Each is one file here, and one in `fuzz_targets/` that libFuzzer drives.

use crate::Target;

mod apply;
mod backup;
mod cel;
mod custom;
mod dns;
mod encrypted;
mod etcd;
mod http_head;
mod image_archive;
mod image_layer;
mod image_manifest;
mod json_object;
mod log;
mod patch;
mod protobuf;
mod quantity;
mod remote;
mod selector;
mod spdy;
mod supervisor;
mod token;
mod websocket;
mod yaml;

pub const TARGETS: &[(&str, Target)] = &[
    ("apply", apply::run),
    ("backup", backup::run),
    ("cel", cel::run),
    ("custom", custom::run),
    ("dns", dns::run),
    ("encrypted", encrypted::run),
    ("etcd", etcd::run),
    ("http_head", http_head::run),
    ("image_archive", image_archive::run),
    ("image_layer", image_layer::run),
    ("image_manifest", image_manifest::run),
    ("json_object", json_object::run),
    ("log", log::run),
    ("patch", patch::run),
    ("protobuf", protobuf::run),
    ("quantity", quantity::run),
    ("remote", remote::run),
    ("selector", selector::run),
    ("spdy", spdy::run),
    ("supervisor", supervisor::run),
    ("token", token::run),
    ("websocket", websocket::run),
    ("yaml", yaml::run),
];
