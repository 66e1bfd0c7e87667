//! Where the operators of a network ran, read from ONNX Runtime's profile.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use ort::session::Session;

use crate::{Error, Result};

/// Operators that ran, by provider and kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Placement(pub BTreeMap<String, BTreeMap<String, usize>>);

impl Placement {
    /// Reads it from the profile of `session`, which must have been built to write one and have run once.
    ///
    /// # Errors
    /// The profile cannot be read.
    pub fn of(session: &mut Session) -> Result<Self> {
        let failed = |error: String| Error::failed(format!("ONNX Runtime's profile cannot be read: {error}"));
        let path = session.end_profiling().map_err(|error| failed(error.to_string()))?;
        let text = fs::read_to_string(&path).map_err(|error| failed(format!("{path}: {error}")))?;
        // A temporary file; that it stays behind is no reason to stop.
        let _ = fs::remove_file(&path);
        let events: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let mut placement = Self::default();
        for event in events.iter().filter(|event| event["cat"] == "Node") {
            let arguments = &event["args"];
            if let (Some(provider), Some(operator)) = (arguments["provider"].as_str(), arguments["op_name"].as_str()) {
                *placement.0.entry(provider.to_owned()).or_default().entry(operator.to_owned()).or_default() += 1;
            }
        }
        Ok(placement)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = self.0.len() > 1;
        for (index, (provider, operators)) in self.0.iter().enumerate() {
            let count: usize = operators.values().sum();
            write!(f, "{}{count} operators on {provider}", if index > 0 { "; " } else { "" })?;
            if several && provider == "CPUExecutionProvider" {
                write!(f, " ({})", operators.keys().cloned().collect::<Vec<_>>().join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_graph_names_what_is_left_on_the_cpu() {
        let on = |names: &[(&str, usize)]| names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let placement = Placement(BTreeMap::from([
            ("CPUExecutionProvider".to_owned(), on(&[("GridSample", 30), ("Shape", 2)])),
            ("CUDAExecutionProvider".to_owned(), on(&[("Conv", 120)])),
        ]));
        assert_eq!(
            placement.to_string(),
            "32 operators on CPUExecutionProvider (GridSample, Shape); 120 operators on CUDAExecutionProvider"
        );
    }
}
