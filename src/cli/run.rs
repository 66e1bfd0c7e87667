//! `oodstream run`: video in, the same video out with the unknown marked. Files here, one after the other; live in
//! [`super::live`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use super::options::RunArgs;
use super::outputs::Outputs;
use super::progress::Progress;
use super::report::{InputReport, RunReport, write_json};
use super::source::open_input;
use super::streams::{self, Inputs};
use super::{DAMAGED, INTERRUPTED, engine, interrupt, live};
use crate::Result;
use crate::config::Config;
use crate::draw::View;
use crate::gst;
use crate::input::Input;
use crate::input::live::SourceOptions;
use crate::output::Encoding;
use crate::pipeline::{self, Control, Engine, Flow, Meter, Outcome, Stream};
use crate::record::{Existing, Records};

/// Runs the command; its exit code.
///
/// # Errors
/// The configuration is impossible, the model does not load, an input is not there. What goes wrong in one of several
/// inputs is printed and counted, and the others are still run.
pub fn run(args: &RunArgs, quiet: bool) -> Result<u8> {
    let start = Instant::now();
    let config = args.config()?;
    let outputs = Outputs::parse(&args.output)?;
    gst::init()?;
    let inputs = match streams::resolve(args, &config, &outputs)? {
        Inputs::Files(inputs) => inputs,
        Inputs::Live(planned) => return live::run(args, config, &outputs, planned, quiet),
    };
    let video = outputs.of_files()?;
    let files = video.files(&inputs.iter().map(Input::file_name).collect::<Vec<_>>())?;
    video.make_folder()?;
    let interrupts = interrupt::watch()?;
    let mut engine = engine::open(&config)?;
    let existing = if config.encode.overwrite { Existing::Replace } else { Existing::Refuse };
    let records = Records::open(outputs.wanted(existing))?;
    let encoding = encoding(&config);
    let mut reports = Vec::new();
    let mut worst = 0;
    for (index, (input, file)) in inputs.iter().zip(&files).enumerate() {
        let job = Job {
            input,
            file: file.as_deref(),
            index: index as u32,
            encoding: &encoding,
            source: &config.source,
            queue: config.pipeline.queue,
            quiet,
            alone: inputs.len() == 1,
        };
        let (report, code) = job.run(&mut engine, &records, &interrupts);
        reports.push(report);
        worst = worse(worst, code);
        if code == INTERRUPTED {
            break;
        }
    }
    conclude(&engine, &config, reports, start.elapsed(), args.json.as_deref(), quiet)?;
    Ok(worst)
}

/// Prints how long the stages took and writes the report for machines.
///
/// # Errors
/// The report cannot be written.
pub(super) fn conclude(
    engine: &Engine,
    config: &Config,
    inputs: Vec<InputReport>,
    wall: Duration,
    json: Option<&Path>,
    quiet: bool,
) -> Result<()> {
    let stages = engine.stages.report();
    let report = RunReport {
        inputs,
        wall_s: wall.as_secs_f64(),
        stages: stages.iter().cloned().collect(),
        compute: engine.backend.name(),
        provider: engine.network.provider().name(),
        model: engine.network.path().display().to_string(),
        method: config.detect.method.clone(),
        threshold: engine.settings.get().threshold,
    };
    if !quiet && report.inputs.iter().any(|input| input.frames_in > 0) {
        let order: Vec<&str> = stages.iter().map(|(name, _)| *name).collect();
        eprint!("{}", report.stage_table(&order));
    }
    json.map_or(Ok(()), |path| write_json(&report, path))
}

/// Of two exit codes the one that says more: interrupted, failed, damaged, done.
pub(super) fn worse(a: u8, b: u8) -> u8 {
    [INTERRUPTED, 2, 1, DAMAGED].into_iter().find(|code| [a, b].contains(code)).unwrap_or(0)
}

pub(super) fn encoding(config: &Config) -> Encoding {
    Encoding {
        encoder: config.encode.encoder.clone(),
        bitrate_kbps: config.encode.bitrate,
        crf: config.encode.crf,
        preset: config.encode.preset.clone(),
        overwrite: config.encode.overwrite,
        width_factor: if config.draw.view == View::SideBySide { 2 } else { 1 },
    }
}

/// One input of the run.
struct Job<'a> {
    input: &'a Input,
    file: Option<&'a Path>,
    index: u32,
    encoding: &'a Encoding,
    source: &'a SourceOptions,
    queue: usize,
    quiet: bool,
    alone: bool,
}

impl Job<'_> {
    /// Runs it; what to report and the exit code it asks for.
    fn run(&self, engine: &mut Engine, records: &Records<'_>, interrupts: &Arc<AtomicU32>) -> (InputReport, u8) {
        let name = self.input.to_string();
        let meter = Meter::new(&name);
        let ignore = Arc::clone(&engine.ignore);
        let open = || {
            let opened = open_input(self.input, self.file, self.encoding, self.source, self.index)?;
            opened.0.info().map_or(Ok(()), |info| ignore.check_size(info.width, info.height))?;
            Ok(opened)
        };
        let opened = records.of_stream(&name).and_then(|recorders| Ok((recorders, open()?)));
        match opened {
            Err(error) => {
                eprintln!("oodstream: error: {error}");
                let code = error.exit_code();
                (self.report(name, &meter, None, Some(error.to_string())), code)
            }
            Ok((recorders, (reader, writer))) => {
                let info = reader.info().cloned();
                tracing::debug!(?info, "opened {name}");
                let progress = Progress::new(&name, info.as_ref(), self.quiet);
                let [hub, control] = [(), ()].map(|()| Control::watching(Arc::clone(interrupts)));
                let flow = Flow::all(self.queue);
                let stream =
                    Stream { reader, writer, recorders, observer: &progress, control: &control, meter: &meter, flow };
                let outcome = pipeline::run(engine, &hub, vec![stream]).pop().unwrap_or_default();
                progress.finish();
                let code = self.tell(&name, &meter, &outcome);
                let error = outcome.error.as_ref().map(ToString::to_string);
                (self.report(name, &meter, Some(outcome), error), code)
            }
        }
    }

    /// Prints how it ended and gives the exit code.
    fn tell(&self, name: &str, meter: &Meter, outcome: &Outcome) -> u8 {
        let seen = meter.read();
        if let Some(written) = &outcome.written
            && !self.quiet
        {
            let note = if outcome.interrupted { " (interrupted)" } else { "" };
            eprintln!(
                "{name} -> {}{note}: {} frames, unknown {:.2} %, {}",
                written.path.display(),
                seen.frames_out,
                seen.share_mean * 100.0,
                written.encoder
            );
        }
        let damaged = outcome.end.as_ref().is_some_and(|end| end.truncated || end.damaged > 0);
        if let Some(end) = outcome.end.as_ref().filter(|_| damaged) {
            let what = if end.truncated { "ends before its time" } else { "is damaged" };
            eprintln!(
                "oodstream: warning: {name} {what} ({} frames lost or concealed): {}",
                end.damaged,
                end.notes.join("; ")
            );
        }
        match &outcome.error {
            Some(error) => {
                let place = if self.alone { error.to_string() } else { format!("{name}: {error}") };
                eprintln!("oodstream: error: {place}");
                error.exit_code()
            }
            None if outcome.interrupted => INTERRUPTED,
            None if seen.frames_in == 0 => {
                eprintln!("oodstream: error: {name}: no frame could be decoded");
                1
            }
            None if damaged => DAMAGED,
            None => 0,
        }
    }

    fn report(&self, path: String, meter: &Meter, outcome: Option<Outcome>, error: Option<String>) -> InputReport {
        let seen = meter.read();
        let end = outcome.as_ref().and_then(|outcome| outcome.end.as_ref());
        let written = outcome.as_ref().and_then(|outcome| outcome.written.as_ref());
        InputReport {
            path,
            frames_in: seen.frames_in,
            frames_out: seen.frames_out,
            dropped: seen.dropped(),
            damaged: end.map_or(0, |end| end.damaged),
            truncated: end.is_some_and(|end| end.truncated),
            ood_share_mean: seen.share_mean,
            output: written.map(|written| written.path.display().to_string()),
            encoder: written.map(|written| written.encoder.clone()),
            error,
            live: None,
        }
    }
}
