//! How many objects are stored, by resource, and how often values are encrypted and decrypted.

use std::collections::BTreeMap;

use sampan_base::metrics::{Exposition, Kind};
use sampan_storage::encryption::Encryption;

use crate::registry::Registry;

pub fn collect(registry: &Registry, out: &mut Exposition) {
    // Each storage once, under the version in which it is stored.
    let mut counts = BTreeMap::new();
    let table = registry.table();
    for def in table.entries() {
        let Some(storage) = &def.storage else { continue };
        if storage.stored_as == def.gvr
            && let Ok(resource) = registry.resource(&def.gvr)
        {
            counts.insert((def.gvr.group.clone(), def.gvr.resource.clone()), resource.cache.len());
        }
    }
    out.family("apiserver_storage_objects", "[STABLE] Stored objects, by resource.", Kind::Gauge);
    for ((group, resource), count) in &counts {
        let name = if group.is_empty() { resource.to_string() } else { format!("{resource}.{group}") };
        out.sample(&[("resource", &name)], *count as f64);
    }
    out.family("apiserver_resource_objects", "[ALPHA] Stored objects, by group and resource.", Kind::Gauge);
    for ((group, resource), count) in &counts {
        out.sample(&[("group", group), ("resource", resource)], *count as f64);
    }
}

pub fn collect_encryption(encryption: &Encryption, out: &mut Exposition) {
    out.family(
        "apiserver_storage_transformation_operations_total",
        "[ALPHA] Values that were transformed on their way to or from the store, by result and transformer.",
        Kind::Counter,
    );
    for (count, number) in encryption.counts() {
        let labels = [
            ("status", count.status),
            ("transformation_type", count.direction),
            ("transformer_prefix", count.prefix),
        ];
        out.sample(&labels, number as f64);
    }
}
