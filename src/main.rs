use std::process::ExitCode;

fn main() -> ExitCode {
    oodstream::memory::share_arenas();
    oodstream::cli::main()
}
