//! Arguments → configuration → build → run → exit code.

use clap::Parser as _;
use skproxy::cli::{Arguments, Exit};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, everything else is a usage error.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nothing can be said any more when stdout is closed.
            drop(error.print());
            return exit.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("skproxy: start the runtime: {error}");
            return Exit::Failure.into();
        }
    };
    runtime.block_on(skproxy::cli::run(arguments)).into()
}
