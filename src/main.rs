//! The program: the heap, the environment, then [`oodstream::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    oodstream::memory::configure_heap();
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|folder| folder.is_empty()) {
        // Vulkan's window system code complains on standard error without it, though no window is opened.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
    oodstream::cli::main()
}
