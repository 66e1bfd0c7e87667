use std::process::ExitCode;

fn main() -> ExitCode {
    oodstream::memory::configure_heap();
    oodstream::cli::main()
}
