//! The inputs of a session: those named to its builder or those of the pipeline file, live ones each with its outputs.

use std::collections::HashSet;
use std::path::Path;

use super::outputs::Outputs;
use crate::address::Address;
use crate::config::Config;
use crate::input;
use crate::input::file::VideoTrack;
use crate::input::own::OwnReader;
use crate::input::{Input, LiveInput};
use crate::output::publish::Target;
use crate::{Error, Result};

/// One live stream before anything of it is opened.
#[derive(Debug)]
pub(super) struct Planned {
    /// Unique in the run; letters, digits, `.`, `_` and `-` only.
    pub name: String,
    /// The source of its pictures.
    pub input: LiveInput,
    /// The destination of its video.
    pub targets: Vec<Target>,
}

/// The inputs of a session by the way in which they run.
pub(super) enum Inputs {
    /// Files, to be run one after the other.
    Files(Vec<Input>),
    /// Live streams, to be run at the same time.
    Live(Vec<Planned>),
    /// Frames of the caller.
    Own(OwnReader),
}

/// The inputs that `addresses`, or else the pipeline file, name.
///
/// # Errors
/// No input at all, files among live inputs, a name that is taken, an output that one stream has already.
pub(super) fn resolve(addresses: &[Address], realtime: bool, config: &Config, outputs: &Outputs) -> Result<Inputs> {
    if addresses.is_empty() && !config.stream.is_empty() {
        return from_file(config, outputs).map(Inputs::Live);
    }
    if addresses.is_empty() {
        return Err(Error::usage("there is no INPUT").hint("name a video, or a pipeline file with [[stream]] by -c"));
    }
    let mut inputs = Vec::new();
    for argument in addresses {
        inputs.extend(input::expand_input(argument)?);
    }
    if !realtime && config.source.video_track == VideoTrack::All {
        inputs = input::each_track(inputs)?;
    }
    if !realtime && !inputs.iter().any(|input| matches!(input, Input::Live(_))) {
        return Ok(Inputs::Files(inputs));
    }
    let mut names = HashSet::new();
    let several = inputs.len() > 1;
    let plan = |input: Input| {
        let name = free_name(&stem(&input.file_name()), &mut names);
        let targets = targets(&outputs.video, &name, several)?;
        Ok(Planned { input: live(input, realtime)?, name, targets })
    };
    let planned = inputs.into_iter().map(plan).collect::<Result<Vec<_>>>()?;
    if outputs.is_empty() {
        return Err(Error::usage("a live input needs an output").hint(
            "-o rtsp://127.0.0.1:8554/NAME, -o hls:DIR, -o x.mp4, -o 'x-%Y%m%d-%H%M%S.mp4', -o events:x.jsonl, or -o none",
        ));
    }
    Ok(Inputs::Live(planned))
}

fn from_file(config: &Config, outputs: &Outputs) -> Result<Vec<Planned>> {
    let mut names = HashSet::new();
    let several = config.stream.len() > 1;
    let mut planned = Vec::new();
    for (index, stream) in config.stream.iter().enumerate() {
        let place = format!("[[stream]] number {}", index + 1);
        let inputs = input::expand_input(&stream.input).map_err(|error| error.at(&place))?;
        let [input] = <[Input; 1]>::try_from(inputs)
            .map_err(|_| Error::usage(format!("{place}: input `{}` is more than one video", stream.input)))?;
        let name = match &stream.name {
            Some(name) if name.is_empty() || *name != plain(name) || name.chars().all(|c| c == '.') => {
                return Err(Error::usage(format!(
                    "{place}: the name `{name}` may hold letters, digits, `.`, `_` and `-`"
                )));
            }
            Some(name) if !names.insert(name.clone()) => {
                return Err(Error::usage(format!("{place}: the name `{name}` is taken by another stream")));
            }
            Some(name) => name.clone(),
            None => free_name(&stem(&input.file_name()), &mut names),
        };
        let mut of_stream = targets(&stream.output, &name, false).map_err(|error| error.at(&place))?;
        of_stream.extend(targets(&outputs.video, &name, several)?);
        planned.push(Planned {
            input: live(input, stream.realtime).map_err(|error| error.at(&place))?,
            name,
            targets: of_stream,
        });
    }
    let mut taken = HashSet::new();
    for target in planned.iter().flat_map(|stream| &stream.targets) {
        // Windows never collide.
        if *target != Target::Display && !taken.insert(target.to_string()) {
            return Err(Error::usage(format!("{target} is the output of two streams")).hint("put {name} into it"));
        }
    }
    Ok(planned)
}

/// The live outputs among `options`, with the stream's name in them.
fn targets(options: &[Address], name: &str, several: bool) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for option in options.iter().filter(|option| option.text() != Some("none")) {
        let place = format!("-o {option}");
        if several && !option.has_name() && option.text() != Some("display:") {
            return Err(Error::usage(format!("{place}: one output for several streams"))
                .hint("put {name} into it, which stands for the stream's name"));
        }
        let target = Target::of(&option.with_name(name)).map_err(|error| error.at(&place))?;
        targets.push(target.ok_or_else(|| {
            Error::usage(format!("{place}: not an output for live streams that is known")).hint(
                "rtsp://HOST:PORT/NAME, rtsp+push://, hls:DIR, x.mp4, x-%Y%m%d-%H%M%S.mp4, display:, none, events:x.jsonl, \
                 masks:DIR, scores:DIR, snapshots:DIR, mqtt://, webhook: or exec:",
            )
        })?);
    }
    Ok(targets)
}

fn live(input: Input, realtime: bool) -> Result<LiveInput> {
    match input {
        Input::Live(input) => Ok(input),
        Input::File(path) if realtime => Ok(LiveInput::realtime(&path)),
        Input::File(_) | Input::Track(..) => Err(Error::usage(format!(
            "{input} is a file, and live streams run at the same time"
        ))
        .hint("play it as a live stream with --realtime (`realtime = true` in [[stream]]), or run it by itself")),
        Input::Images(_) | Input::Test(_) => Err(Error::usage(format!("{input} cannot be played as a live stream"))
            .hint("a test pattern is live with ?live=1")),
    }
}

fn stem(path: &Path) -> String {
    plain(&path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy())
}

/// `text` with everything that does not fit into a name as `_`.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

fn free_name(base: &str, taken: &mut HashSet<String>) -> String {
    let mut name = base.to_owned();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}
