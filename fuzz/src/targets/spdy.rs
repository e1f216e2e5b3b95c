//! SPDY/3.1: frames, header blocks, and whole sessions.

use sampan_apiserver::streaming::fuzzing as doors;

use crate::input;
use crate::session::{Kind, serve};

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    match choice % 4 {
        0 => frames(rest),
        1 => headers(rest),
        2 => drop(serve(Kind::Exec, false, usize::from(choice / 4), rest)),
        _ => drop(serve(Kind::PortForward, false, usize::from(choice / 4), rest)),
    }
}

/// What is written of frames is written the same again.
fn frames(bytes: &[u8]) {
    let Some(once) = doors::spdy_frames(bytes) else { return };
    assert!(once.len() <= bytes.len() + bytes.len() / 8 * 8, "frames do not grow");
    assert_eq!(doors::spdy_frames(&once).as_deref(), Some(&once[..]), "written and read");
}

fn headers(bytes: &[u8]) {
    // Blocks of any bytes.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    if let Some(blocks) = doors::spdy_headers(&[first, second]) {
        let held: usize = blocks.iter().flatten().map(|(name, value)| name.len() + value.len()).sum();
        assert!(held <= 2 * 3 * 64 * 1024, "{held} bytes of headers");
    }
    // What stands in a block is what comes out of one.
    if let Some(pairs) = doors::spdy_plain_headers(bytes) {
        let block = doors::spdy_header_block(&pairs).expect("what was read can be written");
        assert_eq!(doors::spdy_headers(&[&block]), Some(vec![pairs]));
    }
}
