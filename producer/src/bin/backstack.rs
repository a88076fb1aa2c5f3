//! The command `backstack`: parses, and calls the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    backstack_producer::cli::main()
}
