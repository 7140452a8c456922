//! The one program of the image: the broker, or under their names the operator and the plugin of kubectl. They share more
//! than half of what two programs would have each.

use std::process::ExitCode;

fn main() -> ExitCode {
    if chronik_operator::process::is_asked_for() {
        chronik_operator::process::main()
    } else {
        chronik_broker::cli::main()
    }
}
