//! `oodstream manual`: man pages and shell completions from the command line's own definition, for packages.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use crate::{Error, Result};

/// Shells that completions are written for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Options of `manual`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  oodstream manual target/manual")]
pub struct ManualArgs {
    /// Directory for man1/*.1 and completions/*; existing pages are replaced
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Runs the command; the exit code is 0.
///
/// # Errors
/// A file cannot be written.
pub fn run(args: &ManualArgs) -> Result<u8> {
    let failed = |error: io::Error| Error::io(format!("manual {}", args.directory.display()), error);
    let (pages, completions) = (args.directory.join("man1"), args.directory.join("completions"));
    fs::create_dir_all(&pages).and_then(|()| fs::create_dir_all(&completions)).map_err(failed)?;
    let mut command = Cli::command();
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut command, "oodstream", &completions).map_err(failed)?;
    }
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&command, &pages).map_err(failed)?;
    Ok(0)
}

/// Writes the page of a command and those of its subcommands.
fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, folder)?;
    }
    let page = Man::new(command.clone()).source(concat!("oodstream ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    // The help text after the options consists of examples and tables, whose lines must not be filled.
    let text = String::from_utf8_lossy(&text)
        .replace(".SH EXTRA", ".SH EXAMPLES\n.nf")
        .replace(".SH VERSION", ".fi\n.SH VERSION");
    fs::write(folder.join(page.get_filename()), text)
}
