//! The draw stage of one stream: a result onto its frame, or the newest result onto every frame.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};

use super::job::Job;
use super::lane::give_back;
use super::settings::Settings;
use crate::Result;
use crate::compute::Detection;
use crate::draw::{Caption, Painter, ScoreScale, View, beside_width};
use crate::gst::Frame;

/// Results that are finished, for frames that do not wait for their own.
pub(super) struct Newest {
    /// Jobs behind the track stage.
    pub finished: Receiver<Box<Job>>,
    /// Where they go when a newer one is there.
    pub spare: Sender<Box<Job>>,
    shown: Option<Box<Job>>,
}

impl Newest {
    pub fn new(finished: Receiver<Box<Job>>, spare: Sender<Box<Job>>) -> Self {
        Self { finished, spare, shown: None }
    }

    /// The newest finished job.
    fn take(&mut self, maps: &Sender<Box<Detection>>) -> Option<&Job> {
        while let Ok(done) = self.finished.try_recv() {
            if let Some(mut old) = self.shown.replace(done) {
                give_back(maps, old.detection.take());
                old.clear();
                // There is room for all of them.
                let _ = self.spare.try_send(old);
            }
        }
        self.shown.as_deref()
    }
}

/// Draws the frames of one stream.
pub(super) struct Drawing<'a> {
    settings: &'a Settings,
    version: u64,
    painter: Painter,
    scale: RunningScale,
    caption: Caption,
    /// Lines of the caption that stay.
    notes: usize,
    classes: Vec<String>,
    /// Share of the picture that is left out.
    ignored: f32,
    /// Maps that were drawn go back here.
    maps: Sender<Box<Detection>>,
    newest: Option<Newest>,
}

impl<'a> Drawing<'a> {
    pub fn new(
        settings: &'a Settings,
        classes: Vec<String>,
        ignored: f32,
        maps: Sender<Box<Detection>>,
        newest: Option<Newest>,
    ) -> Result<Self> {
        let version = settings.version();
        let painter = painter(settings, &classes)?;
        let caption = Caption { lines: notes(settings, ignored) };
        Ok(Self {
            settings,
            version,
            painter,
            scale: RunningScale::default(),
            notes: caption.lines.len(),
            caption,
            classes,
            ignored,
            maps,
            newest,
        })
    }

    /// Draws what there is to draw on the job's frame.
    pub fn draw(&mut self, job: &mut Job) -> Result<()> {
        let version = self.settings.version();
        if version != self.version {
            self.painter = painter(self.settings, &self.classes)?;
            self.caption.lines = notes(self.settings, self.ignored);
            self.notes = self.caption.lines.len();
            self.version = version;
        }
        let Job { frame: Some(frame), detection, scene, threshold, ood_share, .. } = job else { return Ok(()) };
        if let Some(age) = frame.lost {
            return self.no_signal(frame, age);
        }
        if let Some(newest) = &mut self.newest {
            let Some(Job { frame: Some(seen), detection: Some(found), scene, threshold, .. }) = newest.take(&self.maps)
            else {
                return self.painter_only(frame);
            };
            *ood_share = found.ood_share;
            let age = Duration::from_nanos(frame.running_time.saturating_sub(seen.running_time));
            self.caption.lines.truncate(self.notes);
            self.caption.lines.push(format!("result {:.1} s old", age.as_secs_f64()));
            let scale = self.scale.update(found, *threshold);
            self.painter.set_scene(Some(scene));
            return paint(&mut self.painter, frame, found, scale, *threshold, &self.caption);
        }
        let Some(found) = detection.take() else { return Ok(()) };
        *ood_share = found.ood_share;
        let scale = self.scale.update(&found, *threshold);
        self.painter.set_scene(Some(scene));
        let drawn = paint(&mut self.painter, frame, &found, scale, *threshold, &self.caption);
        give_back(&self.maps, Some(found));
        drawn
    }

    /// A frame before the first result: as it is, in the size of those to come.
    fn painter_only(&mut self, frame: &mut Frame) -> Result<()> {
        if self.painter.style().view == View::SideBySide {
            let mut wide = frame.new_like(beside_width(frame.width() as usize) as u32, frame.height())?;
            self.painter.copy_beside(&frame.map()?.i420(), &mut wide.map_mut()?.i420())?;
            *frame = wide;
        }
        Ok(())
    }

    fn no_signal(&mut self, frame: &mut Frame, age: Duration) -> Result<()> {
        self.painter_only(frame)?;
        self.painter.paint_no_signal(&mut frame.map_mut()?.i420(), age)
    }
}

fn painter(settings: &Settings, classes: &[String]) -> Result<Painter> {
    let mut painter = Painter::new(settings.get().style)?;
    painter.set_classes(classes);
    Ok(painter)
}

/// What the legend says of the rules that are not the usual ones.
fn notes(settings: &Settings, ignored: f32) -> Vec<String> {
    let events = settings.get().events;
    let mut notes = Vec::new();
    if !events.known.is_empty() {
        notes.push(format!("no alarm: unusual {}", events.known.join(", ")));
    }
    if ignored > 0.0 {
        notes.push(format!("left out: {:.0} % of the picture", 100.0 * ignored));
    }
    notes
}

fn paint(
    painter: &mut Painter,
    frame: &mut Frame,
    found: &Detection,
    scale: ScoreScale,
    threshold: f32,
    caption: &Caption,
) -> Result<()> {
    if painter.style().view == View::SideBySide {
        let mut wide = frame.new_like(beside_width(frame.width() as usize) as u32, frame.height())?;
        painter.paint_beside(&frame.map()?.i420(), &mut wide.map_mut()?.i420(), found, scale, threshold, caption)?;
        *frame = wide;
        return Ok(());
    }
    painter.paint(&mut frame.map_mut()?.i420(), found, scale, threshold, caption)
}

/// The scores between which the colour map is spread: follows the frames slowly, so that colours do not flicker.
#[derive(Default)]
struct RunningScale(Option<ScoreScale>);

impl RunningScale {
    /// Weight of the newest frame.
    const PACE: f32 = 0.05;

    fn update(&mut self, detection: &Detection, threshold: f32) -> ScoreScale {
        let (low, high) = detection
            .grid_score
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &score| (low.min(score), high.max(score)));
        let high = high.max(threshold + (threshold - low).abs() * 0.25);
        let scale = self.0.get_or_insert(ScoreScale { low, high });
        scale.low += (low - scale.low) * Self::PACE;
        scale.high += (high - scale.high) * Self::PACE;
        *scale
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::unbounded;
    use ndarray::Array2;

    use super::super::settings::Tunable;
    use super::*;
    use crate::gst;
    use crate::input;
    use crate::input::Read;
    use crate::output;

    #[test]
    fn a_result_on_a_later_frame_says_how_old_it_is() {
        gst::init().unwrap();
        let input = input::expand_input("test://black?frames=9&width=64&height=32&fps=25").unwrap().remove(0);
        let input::Input::Test(spec) = input else { panic!("{input}") };
        let (mut reader, _) = output::file::open_test(&spec, None, &Default::default(), 0).unwrap();
        let mut frames = Vec::new();
        while let Read::Frame(frame) = reader.read(Duration::from_secs(20)).unwrap() {
            frames.push(frame);
        }
        let mut jobs = frames.into_iter().map(|frame| Box::new(Job { frame: Some(frame), ..Job::default() }));
        let (mut first, mut last) = (jobs.next().unwrap(), jobs.next_back().unwrap());
        first.detection = Some(Box::new(Detection {
            grid_score: Array2::zeros((4, 8)),
            score: Array2::zeros((32, 64)),
            mask: Array2::zeros((32, 64)),
            labels: Array2::zeros((0, 32)),
            clusters: Vec::new(),
            iterations: Vec::new(),
            ood_share: 0.25,
        }));
        first.threshold = 1.0;
        let ((done, finished), (spare, _kept), (maps, _back)) = (unbounded(), unbounded(), unbounded());
        let settings = Settings::new(Tunable::default());
        let mut drawing = Drawing::new(&settings, Vec::new(), 0.0, maps, Some(Newest::new(finished, spare))).unwrap();
        // Before the first result there is nothing to tell.
        drawing.draw(&mut last).unwrap();
        assert!(drawing.caption.lines.is_empty() && last.ood_share == 0.0);
        done.send(first).unwrap();
        drawing.draw(&mut last).unwrap();
        assert_eq!(drawing.caption.lines, ["result 0.3 s old"]);
        assert_eq!(last.ood_share, 0.25);
    }
}
