//! Passwords and secrets: from a file, or from the environment.

use std::env;
use std::path::Path;

use crate::{Error, Result};

/// The variable of the environment with the password at a broker.
pub const MQTT_PASSWORD: &str = "OODSTREAM_MQTT_PASSWORD";
/// The variable of the environment with the secret of a webhook's signature.
pub const WEBHOOK_SECRET: &str = "OODSTREAM_WEBHOOK_SECRET";

/// The first line of `file`, or else what `variable` of the environment holds.
///
/// # Errors
/// The file cannot be read or its first line is empty. The message holds no part of it.
pub fn read(key: &str, file: Option<&Path>, variable: &str) -> Result<Option<String>> {
    let Some(path) = file else { return Ok(env::var(variable).ok().filter(|secret| !secret.is_empty())) };
    let place = format!("{key} = {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(format!("{place}: cannot be read"), error))?;
    match text.lines().next().map(str::trim_end).filter(|line| !line.is_empty()) {
        Some(secret) => Ok(Some(secret.to_owned())),
        None => Err(Error::usage(format!("{place}: its first line is empty"))),
    }
}
