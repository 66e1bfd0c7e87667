//! The progress of a run: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::input::VideoInfo;

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows frames, frame rate, real-time factor, time left and the share of unknown pixels of one input.
#[derive(Debug)]
pub struct Progress {
    name: String,
    start: Instant,
    total: Option<u64>,
    frames: AtomicU64,
    share_ppm: AtomicU64,
    show: Show,
}

#[derive(Debug)]
enum Show {
    Bar(ProgressBar),
    Lines(Mutex<Instant>),
}

impl Progress {
    /// Starts the display for the input `name`.
    pub fn new(name: &str, info: Option<&VideoInfo>) -> Self {
        let total = info.and_then(|info| {
            info.frames
                .or_else(|| Some((info.duration? as f64 / 1e9 * info.fps?).round() as u64))
                .filter(|total| *total > 0)
        });
        let show = if std::io::stderr().is_terminal() {
            Show::Bar(bar(total))
        } else {
            Show::Lines(Mutex::new(Instant::now()))
        };
        Self {
            name: name.to_owned(),
            start: Instant::now(),
            total,
            frames: AtomicU64::new(0),
            share_ppm: AtomicU64::new(0),
            show,
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Show::Bar(bar) = &self.show {
            bar.finish_and_clear();
        }
    }

    fn text(&self, running_time: Duration) -> String {
        let frames = self.frames.load(Ordering::Relaxed);
        let elapsed = self.start.elapsed().as_secs_f64().max(1e-6);
        let share = self.share_ppm.load(Ordering::Relaxed) as f64 / 1e4 / frames.max(1) as f64;
        format!(
            "{:.1} fps, {:.2}x real time, unknown {share:.2} %",
            frames as f64 / elapsed,
            running_time.as_secs_f64() / elapsed
        )
    }

    fn left(&self) -> String {
        let frames = self.frames.load(Ordering::Relaxed);
        match self.total {
            Some(total) if total >= frames && frames > 0 => {
                let seconds = self.start.elapsed().as_secs_f64() / frames as f64 * (total - frames) as f64;
                format!("{:.0} s left", seconds.ceil())
            }
            _ => "time left unknown".to_owned(),
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(8);
    // The templates are constants; should one not parse, the plain bar is shown.
    let style = |template: &str| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
    };
    match total {
        Some(total) => ProgressBar::with_draw_target(Some(total), target)
            .with_style(style("{prefix} [{bar:28}] {pos}/{len} frames, {msg}, {eta} left")),
        None => ProgressBar::with_draw_target(None, target).with_style(style("{prefix} {spinner} {pos} frames, {msg}")),
    }
}

impl Progress {
    /// Counts a finished frame.
    pub fn frame_done(&self, running_time: Duration, ood_share: f32) {
        let frames = self.frames.fetch_add(1, Ordering::Relaxed) + 1;
        self.share_ppm.fetch_add((f64::from(ood_share) * 1e6) as u64, Ordering::Relaxed);
        match &self.show {
            Show::Bar(bar) => {
                bar.set_position(frames);
                if frames % 4 == 1 {
                    bar.set_prefix(self.name.clone());
                    bar.set_message(self.text(running_time));
                }
            }
            Show::Lines(last) => {
                let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    let total = self.total.map_or_else(String::new, |total| format!("/{total}"));
                    eprintln!("{}: {frames}{total} frames, {}, {}", self.name, self.text(running_time), self.left());
                }
            }
        }
    }
}
