//! The `chronik-operator` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    chronik_operator::process::main()
}
