//! The smallest executable that can be launched as a supervisor: what the `sampan` binary does first
//! when it is called as `sampan supervisor --dir DIR`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [command, flag, dir] if command == "supervisor" && flag == "--dir" => {
            sampan_runtime::supervisor::main(&PathBuf::from(dir))
        }
        _ => {
            eprintln!("usage: supervisor --dir DIR");
            ExitCode::FAILURE
        }
    }
}
