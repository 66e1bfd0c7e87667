//! `oodstream run`: video in, the same video out with the unknown regions marked.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::options::RunArgs;
use super::progress::Progress;
use super::report::{print_messages, stage_table, write_json};
use super::source::log_signal;
use super::{DAMAGED, INTERRUPTED, exit_code, signals};
use crate::Result;
use crate::input::{Signal, VideoInfo};
use crate::lock::lock;
use crate::monitor::Server;
use crate::ood::alarm::AlarmCounts;
use crate::pipeline::{Meter, Reading};
use crate::session::{Ending, InputReport, Observer, Report, Session};

/// Interval between two status lines of a live stream.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Runs the command and returns its exit code.
///
/// # Errors
/// The configuration is invalid, the model does not load, or an input does not exist. An error in one of several inputs
/// is printed and counted, and the others still run.
pub fn run(args: &RunArgs, quiet: bool) -> Result<u8> {
    if args.archive.is_wanted() {
        return super::archive::run(args, quiet);
    }
    args.archive.check_unused()?;
    let config = args.config()?;
    let http = config.http.clone();
    let reread = args.clone();
    let printer = Arc::new(Printer { quiet, ..Printer::default() });
    let mut builder = Session::builder(config)
        .realtime(args.realtime)
        .stop_after(args.stop_after)
        .reload_from(move || reread.config())
        .observer(Arc::clone(&printer) as Arc<dyn Observer>);
    for input in &args.inputs {
        builder = builder.input(input.clone());
    }
    for output in &args.output {
        builder = builder.output(output.clone());
    }
    let session = builder.build()?;
    let handle = session.handle();
    let _ = printer.run.set((session.is_live(), session.input_count()));
    // First of all: an unhandled SIGHUP ends the process.
    let hangup = session.is_live().then(|| signals::reload_on_hangup(handle.clone())).transpose()?;
    // Before the model loads, so that `/readyz` answers while it does.
    let _http = if http.listen.is_some() && session.is_live() {
        let server = Server::start(&http, handle.clone(), args.file())?;
        tracing::info!("page at {}, with /healthz, /readyz, /metrics and /reload", server.url());
        Some(server)
    } else {
        None
    };
    signals::stop_on_interrupt(handle)?;
    let report = session.run();
    if let Some(hangup) = hangup {
        hangup.close();
    }
    let report = report?;
    if !quiet && report.inputs.iter().any(|input| input.frames_in > 0) {
        let order = ["source", "prepare", "infer", "detect", "track", "draw", "sink"];
        let stages: Vec<_> = order.iter().filter_map(|name| Some((*name, report.stages.get(name)?))).collect();
        eprint!("{}", stage_table(&stages));
    }
    let delivered = print_messages(&report.messages, quiet);
    args.json.as_deref().map_or(Ok(()), |path| write_json(&report, path))?;
    Ok(worst(&report, delivered))
}

/// The most significant exit code of the inputs, in this order: interrupted, usage, failed, damaged, done. Messages that
/// were not delivered are a failure.
fn worst(report: &Report, delivered: bool) -> u8 {
    let codes = report.inputs.iter().map(|input| match &input.ending {
        Ending::Done => 0,
        Ending::Damaged => DAMAGED,
        Ending::Interrupted => INTERRUPTED,
        Ending::Failed(error) => exit_code(error),
    });
    let codes: Vec<u8> = codes.chain((!delivered).then_some(1)).collect();
    [INTERRUPTED, 2, 1, DAMAGED].into_iter().find(|code| codes.contains(code)).unwrap_or(0)
}

/// Prints the progress and the end of each input.
#[derive(Default)]
struct Printer {
    quiet: bool,
    /// Whether the run is live, and the number of its inputs; known once the session is built.
    run: OnceLock<(bool, usize)>,
    progress: Mutex<Option<Progress>>,
    /// The last line of each live stream: its name, when it was printed, and its counters then.
    lines: Mutex<Vec<(String, Instant, Reading)>>,
}

impl Printer {
    fn is_live(&self) -> bool {
        self.run.get().is_some_and(|(live, _)| *live)
    }

    fn is_alone(&self) -> bool {
        self.run.get().is_some_and(|(_, inputs)| *inputs == 1)
    }

    fn live_line(&self, meter: &Meter) {
        let mut lines = lock(&self.lines);
        let Some((_, since, before)) = lines.iter_mut().find(|(name, ..)| name == meter.name()) else { return };
        let elapsed = since.elapsed();
        if elapsed < LINE_EVERY {
            return;
        }
        let now = meter.read();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        let latency = now.latency.map_or_else(String::new, |latency| format!(", latency p95 {:.2} s", latency.p95_s));
        eprintln!(
            "{}: {:.1} fps in, {:.1} out, {:.1} dropped{latency}, unknown {:.2} %",
            meter.name(),
            rate(now.frames_in, before.frames_in),
            rate(now.frames_out, before.frames_out),
            rate(now.dropped(), before.dropped()),
            now.share_last * 100.0
        );
        (*since, *before) = (Instant::now(), now);
    }

    /// The summary of a live stream.
    fn live_summary(report: &InputReport) {
        let Some(live) = &report.live else { return };
        let written = report.output.as_ref().map_or_else(String::new, |path| format!(" -> {path}"));
        let latency = live.latency.map_or_else(String::new, |latency| {
            format!(
                ", latency {:.3} s (median), {:.3} s (p95), {:+.3} s per minute",
                latency.p50_s, latency.p95_s, latency.growth_s_per_min
            )
        });
        let lost = live.packets.filter(|packets| packets.lost > 0).map_or_else(String::new, |packets| {
            format!(", {} of {} packets lost", packets.lost, packets.received + packets.lost)
        });
        eprintln!(
            "{}{written}: {} frames in, {} out, {} dropped, {} reconnects{lost}{latency}",
            live.name, report.frames_in, report.frames_out, report.dropped, live.reconnects
        );
    }

    /// The summary of a file.
    fn file_summary(report: &InputReport) {
        let (Some(written), Some(encoder)) = (&report.output, &report.encoder) else { return };
        let note = if matches!(report.ending, Ending::Interrupted) { " (interrupted)" } else { "" };
        eprintln!(
            "{} -> {written}{note}: {} frames, unknown {:.2} %, {encoder}",
            report.path,
            report.frames_out,
            report.ood_share_mean * 100.0
        );
    }
}

/// The alarms of an input and what was withheld; none where no frame was analysed.
fn alarm_line(report: &InputReport) -> Option<String> {
    let AlarmCounts { raised, known, off_road, below_level, over_limit, .. } = report.alarms;
    let withheld: Vec<String> = [
        (known, "as unusual members of known classes"),
        (off_road, "not seen to stand on the road (events.road_gate)"),
        (below_level, "below the level that they need"),
        (over_limit, "over events.max_per_minute"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, reason)| format!("{count} {reason}"))
    .collect();
    let withheld = if withheld.is_empty() { String::new() } else { format!("; withheld: {}", withheld.join(", ")) };
    let name = report.live.as_ref().map_or(&report.path, |live| &live.name);
    (report.frames_looked_at > 0).then(|| format!("{name}: alarms: {raised}{withheld}"))
}

impl Observer for Printer {
    fn started(&self, input: &Meter, info: Option<&VideoInfo>) {
        if self.quiet {
            return;
        }
        if self.is_live() {
            let mut lines = lock(&self.lines);
            lines.push((input.name().to_owned(), Instant::now(), input.read()));
        } else {
            *lock(&self.progress) = Some(Progress::new(input.name(), info));
        }
    }

    fn frame_done(&self, input: &Meter, running_time: Duration, ood_share: f32) {
        if self.quiet {
            return;
        }
        match &*lock(&self.progress) {
            Some(progress) => progress.frame_done(running_time, ood_share),
            None => self.live_line(input),
        }
    }

    fn signal(&self, input: &Meter, signal: &Signal) {
        log_signal(input.name(), signal);
    }

    fn ended(&self, report: &InputReport) {
        if let Some(progress) = lock(&self.progress).take() {
            progress.finish();
        }
        let name = report.live.as_ref().map_or(&report.path, |live| &live.name);
        if !self.quiet {
            if report.live.is_some() {
                Self::live_summary(report);
            } else {
                Self::file_summary(report);
            }
            alarm_line(report).inspect(|line| eprintln!("{line}"));
        }
        let damaged = report.live.is_none() && (report.truncated || report.damaged > 0);
        if damaged {
            let what = if report.truncated { "is truncated" } else { "is damaged" };
            eprintln!("oodstream: warning: {name} {what} ({} frames lost or concealed)", report.damaged);
        }
        for note in &report.notes {
            eprintln!("oodstream: note: {name}: {note}");
        }
        if let Ending::Failed(error) = &report.ending {
            let alone = report.live.is_none() && (self.is_alone() || error.places().contains(name));
            if alone {
                eprintln!("oodstream: error: {error}");
            } else {
                eprintln!("oodstream: error: {name}: {error}");
            }
        }
    }
}
