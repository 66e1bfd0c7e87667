//! `oodstream password`: the hash of a password, for `http.password_hash`.

use std::io::{self, BufRead as _, IsTerminal as _};

use console::Term;

use crate::monitor::hash_password;
use crate::{Error, Result};

/// Fewest characters of a password.
const SHORTEST: usize = 8;

/// Options of `password`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream password                           prompts for it twice without echo
  oodstream password < password.txt            from the first line of a file
Put the hash into the pipeline file, in single quotation marks:
  [http]
  listen = \"0.0.0.0:9090\"
  password_hash = '$argon2id$v=19$...'")]
pub struct PasswordArgs {}

/// Runs the command and returns its exit code.
///
/// # Errors
/// The password is too short, the two that were typed differ, or it cannot be read.
pub fn run(_: &PasswordArgs) -> Result<u8> {
    let failed = |error| Error::io("the password cannot be read", error);
    let password = if io::stdin().is_terminal() {
        let asked = |what: &str| {
            eprint!("{what}: ");
            Term::stderr().read_secure_line().map_err(failed)
        };
        let password = asked("Password")?;
        if asked("Once more")? != password {
            return Err(Error::usage("the two passwords differ"));
        }
        password
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(failed)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.chars().count() < SHORTEST {
        return Err(Error::usage(format!("the password has fewer than {SHORTEST} characters")));
    }
    println!("{}", hash_password(&password)?);
    Ok(0)
}
