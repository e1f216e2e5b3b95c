//! Which users and groups of the machine those of a user namespace are.

use oci_spec::runtime::LinuxIdMapping;

/// The most lines that the kernel takes.
const MAX: usize = 340;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdMapError {
    #[error("a user namespace needs mappings of users and groups")]
    Empty,
    #[error("{0} mappings of users or groups are more than {MAX}")]
    Many(usize),
    #[error("mapping of {size} from {from} exceeds the last number")]
    TooLong { from: u32, size: u32 },
    #[error("mappings overlap at {0}")]
    Overlap(u32),
    #[error("user or group 0 is not mapped")]
    NoRoot,
}

/// The text of `/proc/<pid>/uid_map`.
pub fn text(mappings: &[LinuxIdMapping]) -> Result<String, IdMapError> {
    if mappings.is_empty() {
        return Err(IdMapError::Empty);
    }
    if mappings.len() > MAX {
        return Err(IdMapError::Many(mappings.len()));
    }
    type Side = fn(&LinuxIdMapping) -> u32;
    let sides: [Side; 2] = [|mapping| mapping.container_id(), |mapping| mapping.host_id()];
    for side in sides {
        let mut ranges = Vec::with_capacity(mappings.len());
        for mapping in mappings {
            let (from, size) = (side(mapping), mapping.size());
            // The last number stands for "nobody in particular" and cannot be mapped.
            let end = from.checked_add(size).ok_or(IdMapError::TooLong { from, size })?;
            ranges.push((from, end));
        }
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 < pair[0].1) {
            return Err(IdMapError::Overlap(pair[1].0));
        }
    }
    // The set-up inside is done as root there.
    if !mappings.iter().any(|mapping| mapping.container_id() == 0 && mapping.size() > 0) {
        return Err(IdMapError::NoRoot);
    }
    let lines = mappings
        .iter()
        .map(|mapping| format!("{} {} {}\n", mapping.container_id(), mapping.host_id(), mapping.size()));
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mappings: &[(u32, u32, u32)], expected: Result<&str, IdMapError>) {
        let list: Vec<LinuxIdMapping> = mappings
            .iter()
            .map(|&(container, host, size)| {
                let json = serde_json::json!({ "containerID": container, "hostID": host, "size": size });
                serde_json::from_value(json).expect("is a mapping")
            })
            .collect();
        assert_eq!(text(&list), expected.map(str::to_owned), "{mappings:?}");
    }

    #[test]
    fn maps_are_written_as_the_kernel_reads_them() {
        check(&[(0, 100_000, 65_536)], Ok("0 100000 65536\n"));
        check(&[(0, 1000, 1), (1, 200_000, 10)], Ok("0 1000 1\n1 200000 10\n"));
        check(&[], Err(IdMapError::Empty));
        check(&[(0, 10, 5), (4, 20, 1)], Err(IdMapError::Overlap(4)));
        check(&[(0, 10, 5), (5, 14, 1)], Err(IdMapError::Overlap(14)));
        check(&[(1, 10, 5)], Err(IdMapError::NoRoot));
        check(&[(0, u32::MAX, 2)], Err(IdMapError::TooLong { from: u32::MAX, size: 2 }));
    }
}
