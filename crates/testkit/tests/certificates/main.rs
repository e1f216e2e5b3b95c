//! Who gets a certificate, what it is good for, and what a node may do with its own.

use std::process::ExitCode;

use sampan_testkit::Suite;

mod nodes;
mod renewal;
mod requests;
mod rotation;

fn main() -> ExitCode {
    Suite::new("certificates")
        .test_image()
        .check("an approved request ends with a client certificate that works", requests::approved)
        .check("a denied request gets none, and nobody decides without the right", requests::denied)
        .check("what a signer does not take fails with upstream's reason", requests::refused)
        .check("a node's request is approved by itself where it may", requests::of_a_node)
        .check("a stolen node key reads what its pods need and nothing else", nodes::stolen_key)
        .check("an authority is rotated while clients go on", rotation::of_the_authority)
        .check("the key of tokens is rotated", rotation::of_the_token_key)
        .check("certificates expire all the time and no request fails", renewal::under_load)
        .check("no component was refused anything", nodes::nobody_was_refused)
        .run()
}
