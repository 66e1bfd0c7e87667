use std::process::ExitCode;

fn main() -> ExitCode {
    oodstream::memory::settle();
    oodstream::cli::main()
}
