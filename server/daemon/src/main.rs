//! The program; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    starling_daemon::cli::main()
}
