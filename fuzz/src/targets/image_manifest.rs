//! What registries and archives say of images: manifests, configurations, names, credentials, users.

use sampan_image::fuzzing as doors;
use sampan_image::{Auth, Digest, Reference};

use crate::input;

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    match choice % 6 {
        0 => manifest(rest),
        1 => config(rest),
        2 => drop(input::text(rest).map(reference)),
        3 => drop(Auth::from_docker_config(rest)),
        4 => drop(input::text(rest).map(challenge)),
        _ => drop(input::text(rest).map(user)),
    }
}

fn manifest(bytes: &[u8]) {
    let Some(once) = doors::rewrite_manifest(bytes) else { return };
    assert_eq!(doors::rewrite_manifest(&once), Some(once.clone()), "{}", String::from_utf8_lossy(&once));
}

fn config(bytes: &[u8]) {
    let Some((config, written)) = doors::image_config(bytes) else { return };
    let (again, _) = doors::image_config(&written).expect("what is written is a configuration");
    assert_eq!(again, config);
}

fn reference(text: &str) {
    let _ = Digest::parse(text);
    let Ok(reference) = Reference::parse(text) else { return };
    let shown = reference.to_string();
    assert_eq!(Reference::parse(&shown).as_ref(), Ok(&reference), "{text} is shown as {shown}");
    assert!(!reference.repository().contains("..") && !reference.host().contains('/'), "{shown}");
    assert!(reference.tag().is_some() || reference.digest().is_some());
}

fn challenge(header: &str) {
    if let Some(realm) = doors::challenge(header) {
        assert!(!realm.is_empty());
        assert!(header.len() >= realm.len());
    }
}

/// A user, a line break, a passwd file, an empty line, a group file.
fn user(text: &str) {
    let Some((user, files)) = text.split_once('\n') else { return };
    let (passwd, group) = files.split_once("\n\n").unwrap_or((files, ""));
    let Ok(resolved) = doors::user(passwd, group, user) else { return };
    let limit = i32::MAX.unsigned_abs();
    assert!(resolved.uid <= limit && resolved.gid <= limit);
    assert!(!resolved.additional_gids.contains(&resolved.gid));
    // By number it is the same one, unless a name is a number, or two lines have that number.
    let by_number = doors::user(passwd, group, &format!("{}:{}", resolved.uid, resolved.gid));
    let by_number = by_number.expect("numbers stand for themselves");
    let same = |line: &str| line.split(':').next() == Some(&resolved.uid.to_string());
    if !passwd.lines().any(same) {
        assert_eq!(by_number.uid, resolved.uid, "{user}");
    }
}
