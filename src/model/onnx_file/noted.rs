//! What exporters note beside a graph (`metadata_props`): classes, colour statistics and the task, in the words of
//! ultralytics and of OpenVINO's Model API.

use crate::model::onnx_file::graph::Model;

/// What was noted; empty where nothing was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Noted {
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// What the network was trained for: `segment`, `detect`, ...
    pub task: Option<String>,
    /// Whether the picture's channels are B, G, R.
    pub bgr: Option<bool>,
    /// Mean of the picture's channels, in units of 0..255.
    pub mean: Option<[f32; 3]>,
    /// Deviation of the picture's channels, in units of 0..255.
    pub std: Option<[f32; 3]>,
}

impl Noted {
    /// What is noted in `model`.
    pub fn of(model: &Model<'_>) -> Self {
        let text = |keys: &[&str]| model.noted(keys).map(str::trim).filter(|text| !text.is_empty());
        // OpenVINO's "reverse input channels" turns OpenCV's B, G, R around, so that the network gets R, G, B.
        let reversed = text(&["model_info reverse_input_channels", "reverse_input_channels"]);
        Self {
            classes: text(&["names", "classes", "class_names", "labels", "model_info labels"])
                .map(names)
                .unwrap_or_default(),
            task: text(&["task", "task_type", "model_info task_type"]).map(str::to_owned),
            bgr: reversed.map(|text| !matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "1")),
            mean: text(&["model_info mean_values", "mean_values"]).and_then(three),
            std: text(&["model_info scale_values", "scale_values"]).and_then(three),
        }
    }
}

/// Three numbers, or one for all three.
fn three(text: &str) -> Option<[f32; 3]> {
    let numbers = text.split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E')));
    let numbers = numbers.filter(|part| !part.is_empty()).map(str::parse).collect::<Result<Vec<f32>, _>>().ok()?;
    match numbers.as_slice() {
        [one] => Some([*one; 3]),
        [a, b, c] => Some([*a, *b, *c]),
        _ => None,
    }
    .filter(|numbers| numbers.iter().all(|number| number.is_finite()))
}

/// Names from a JSON list, a Python list or dictionary (`{0: 'road', 1: 'car'}`), or words.
fn names(text: &str) -> Vec<String> {
    let quoted: Vec<String> = quoted(text);
    if text.starts_with(['[', '{']) {
        return quoted;
    }
    let separator = if text.contains(',') { ',' } else { ' ' };
    text.split(separator).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What stands between quotation marks; keys of a dictionary, which a colon follows, are left out.
fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['\'', '"']) {
        let mark = &rest[start..=start];
        let after = &rest[start + 1..];
        let Some(end) = after.find(mark) else { break };
        rest = &after[end + 1..];
        if !rest.trim_start().starts_with(':') {
            found.push(after[..end].to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_form() {
        for text in [
            "{0: 'road', 1: \"driver's seat\"}",
            "[\"road\", \"driver's seat\"]",
            "{\"0\": \"road\", \"1\": \"driver's seat\"}",
            "road, driver's seat",
        ] {
            assert_eq!(names(text), ["road", "driver's seat"], "{text}");
        }
        assert_eq!(names("road car"), ["road", "car"]);
        assert!(names("{").is_empty());
    }

    #[test]
    fn three_numbers_or_one() {
        assert_eq!(three("123.675 116.28, 103.53"), Some([123.675, 116.28, 103.53]));
        assert_eq!(three("[0]"), Some([0.0; 3]));
        assert_eq!(three("1 2"), None);
        assert_eq!(three("none"), None);
    }
}
