use std::process::ExitCode;

fn main() -> ExitCode {
    oodstream::cli::main()
}
