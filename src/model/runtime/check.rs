//! Checks of a loaded graph: its outputs, and the manifest's classes against them.

use ort::session::Session;
use ort::value::ValueType;

use crate::model::classes;
use crate::model::manifest::Manifest;
use crate::{Error, Result};

/// Checks what ONNX Runtime makes of the outputs; gives the channels of the logits where they are fixed.
pub(super) fn check_outputs(session: &Session, logits: Option<&str>, features: &[String]) -> Result<Option<usize>> {
    let mut channels = None;
    let all = logits.map(|name| ("logits", name)).into_iter();
    for (what, name) in all.chain(features.iter().map(|name| ("features", name.as_str()))) {
        let Some(output) = session.outputs().iter().find(|output| output.name() == name) else {
            return Err(Error::failed(format!("output `{name}` is missing after loading")));
        };
        let ValueType::Tensor { shape, .. } = output.dtype() else {
            return Err(Error::failed(format!("the {what} `{name}` are not a tensor")));
        };
        // An empty shape is one that ONNX Runtime could not infer: it is checked on the first picture.
        if !matches!(shape.len(), 0 | 3 | 4) || (shape.len() == 4 && shape[0] > 1) {
            return Err(Error::failed(format!(
                "the {what} `{name}` have shape {:?}, expected a map [1, C, h, w]",
                &shape[..]
            ))
            .hint("choose another place: `oodstream model inspect` lists them, --feature takes one"));
        }
        if what == "logits" && shape.len() >= 3 {
            channels = usize::try_from(shape[shape.len() - 3]).ok().filter(|&channels| channels > 0);
        }
    }
    Ok(channels)
}

/// Checks that the manifest of a network without classes names none.
pub(super) fn no_classes(manifest: &Manifest) -> Result<()> {
    if manifest.classes.names.is_empty() && manifest.classes.palette.is_empty() && manifest.scoring.is_none() {
        return Ok(());
    }
    Err(Error::usage(
        "the manifest does not fit the graph: it has [classes] or [scoring], and no output of the graph holds logits",
    )
    .hint("name them as outputs.logits in the manifest"))
}

/// Checks the manifest's classes, or takes those that the file's metadata has, or guesses them by their number; whether
/// they are a guess.
pub(super) fn find_classes(
    manifest: &mut Manifest,
    logits: &str,
    channels: Option<usize>,
    noted: Vec<String>,
    assumptions: &mut Vec<String>,
) -> Result<bool> {
    let Some(channels) = channels else { return Ok(false) };
    if channels < 2 {
        return Err(Error::failed(format!(
            "the logits `{logits}` have {channels} channel: one class cannot leave anything unknown"
        ))
        .hint("a network with several classes is needed"));
    }
    let classes = &mut manifest.classes;
    for (key, count) in [("classes.names", classes.names.len()), ("classes.palette", classes.palette.len())] {
        if count > 0 && channels != count {
            return Err(Error::usage(format!(
                "the manifest does not fit the graph: {key} has {count} entries, output `{logits}` has {channels} channels"
            )));
        }
    }
    if !classes.names.is_empty() {
        return Ok(false);
    }
    if noted.len() == channels {
        assumptions.push("the names of the classes are those of the file's metadata".to_owned());
        classes.names = noted;
        return Ok(false);
    }
    let Some(table) = classes::by_count(channels) else { return Ok(false) };
    assumptions.push(format!(
        "the names of the {channels} classes are a guess by their number: those of {} (classes.names in the manifest)",
        table.dataset
    ));
    classes.names = table.names[..channels].to_vec();
    if classes.palette.is_empty() {
        classes.palette = table.palette[..channels].to_vec();
    }
    Ok(true)
}
