//! The `chronik` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    chronik_broker::cli::main()
}
