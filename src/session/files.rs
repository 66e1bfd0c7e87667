//! Files, one after the other, without dropping frames.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::builder::{Session, conclude, encoding};
use super::engine;
use super::handle::{Handle, Running, StreamStatus};
use super::observer::Observer;
use super::open::open_input;
use super::report::{Ending, InputReport, Report};
use super::streams::Inputs;
use crate::Result;
use crate::input::live::SourceOptions;
use crate::input::own::OwnReader;
use crate::input::{Input, Signal};
use crate::output::Encoding;
use crate::output::file::{Opened, open_own};
use crate::pipeline::{self, Control, Engine, Flow, Meter, Stream};
use crate::record::{Existing, Records};

/// One input before it is opened.
enum Opener {
    Address(Input),
    Own(OwnReader),
}

impl Opener {
    fn name(&self) -> String {
        match self {
            Self::Address(input) => input.to_string(),
            Self::Own(own) => own.name().to_owned(),
        }
    }

    fn open(self, output: Option<&Path>, encoding: &Encoding, source: &SourceOptions, index: u32) -> Result<Opened> {
        match self {
            Self::Address(input) => open_input(&input, output, encoding, source, index),
            Self::Own(own) => open_own(own, output, encoding, index),
        }
    }
}

pub(super) fn run(session: Session) -> Result<Report> {
    let start = Instant::now();
    let Session { config, inputs, files, outputs, observer, handle, .. } = session;
    let inputs = match inputs {
        Inputs::Files(inputs) => inputs.into_iter().map(Opener::Address).collect(),
        Inputs::Own(own) => vec![Opener::Own(own)],
        Inputs::Live(_) => Vec::new(),
    };
    let mut engine = engine::open(&config)?;
    let existing = if config.encode.overwrite { Existing::Replace } else { Existing::Refuse };
    let records = Records::open(outputs.wanted(existing))?;
    handle.set_running(Running {
        stages: Arc::clone(&engine.stages),
        settings: Arc::clone(&engine.settings),
        first: engine.settings.get(),
        started_with: config.clone(),
        classes: engine.network.manifest().classes.names.clone(),
    });
    let encoding = encoding(&config);
    let mut reports = Vec::new();
    for (index, (input, file)) in inputs.into_iter().zip(files).enumerate() {
        let name = input.name();
        let opened = records.of_stream(&name).and_then(|recorders| {
            let (reader, writer) = input.open(file.as_deref(), &encoding, &config.source, index as u32)?;
            reader.info().map_or(Ok(()), |info| engine.ignore.check_size(info.width, info.height))?;
            Ok((recorders, reader, writer))
        });
        let report = match opened {
            Err(error) => InputReport::unopened(name, error),
            Ok((recorders, reader, writer)) => {
                let meter = Arc::new(Meter::new(&name));
                let info = reader.info().cloned();
                tracing::debug!(?info, "opened {name}");
                handle.set_streams(vec![StreamStatus { meter: Arc::clone(&meter), outputs: Vec::new() }]);
                observer.started(&meter, info.as_ref());
                let follow = Follow { meter: &meter, observer: observer.as_ref() };
                let control = Control::watching(handle.interrupts());
                let flow = Flow::all(config.pipeline.queue);
                let stream =
                    Stream { reader, writer, recorders, observer: &follow, control: &control, meter: &meter, flow };
                let outcome = run_one(&mut engine, &handle, stream);
                InputReport::new(name, &meter, outcome, false)
            }
        };
        observer.ended(&report);
        let interrupted = matches!(report.ending, Ending::Interrupted);
        reports.push(report);
        if interrupted {
            break;
        }
    }
    Ok(conclude(&engine, &config, reports, start))
}

fn run_one(engine: &mut Engine, handle: &Handle, stream: Stream<'_>) -> pipeline::Outcome {
    let hub = Control::watching(handle.interrupts());
    pipeline::run(engine, &hub, vec![stream]).pop().unwrap_or_default()
}

/// Forwards the progress of a stream to the session's observer.
struct Follow<'a> {
    meter: &'a Meter,
    observer: &'a dyn Observer,
}

impl pipeline::Observer for Follow<'_> {
    fn frame_done(&self, running_time: u64, ood_share: f32) {
        self.observer.frame_done(self.meter, Duration::from_nanos(running_time), ood_share);
    }

    fn signal(&self, signal: &Signal) {
        self.observer.signal(self.meter, signal);
    }
}
