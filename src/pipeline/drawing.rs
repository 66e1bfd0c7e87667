//! The draw stage of one stream: a result onto its frame, or the newest result onto every frame.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};

use super::align::Aligner;
use super::message::{Captured, Drawn, Passage, Permit, Recorded, return_detection, return_permit};
use super::settings::{Settings, Tunable};
use crate::Result;
use crate::compute::Detection;
use crate::draw::{Caption, Painter, ScoreScale, View, beside_width};
use crate::gst::Frame;
use crate::ood::alarm::Scene;

/// Results that are finished, for frames that do not wait for their own.
pub(super) struct Newest {
    finished: Receiver<Passage<Recorded>>,
    /// Of the frames that are analysed.
    permits: Sender<Permit>,
    shown: Option<Recorded>,
}

impl Newest {
    /// Takes results from `finished`; each one's permit goes to `permits` when a newer one is there.
    pub fn new(finished: Receiver<Passage<Recorded>>, permits: Sender<Permit>) -> Self {
        Self { finished, permits, shown: None }
    }

    /// The newest finished result.
    fn take(&mut self, detections: &Sender<Box<Detection>>) -> Option<&Recorded> {
        while let Ok(done) = self.finished.try_recv() {
            match done {
                Passage::Analysed(result) => {
                    if let Some(Recorded { detection, permit, .. }) = self.shown.replace(result) {
                        return_detection(detections, detection);
                        return_permit(&self.permits, permit);
                    }
                }
                Passage::Bare(frame) => return_permit(&self.permits, frame.permit),
            }
        }
        self.shown.as_ref()
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
    /// Drawn detections return here.
    detections: Sender<Box<Detection>>,
    newest: Option<Newest>,
    /// Whether frames are passed on as they are.
    unseen: bool,
    /// Whether the last result is kept, for frames that are not analysed.
    keeps_last: bool,
    last: Option<Last>,
    aligner: Aligner,
}

/// The last result of a stream of which not every frame is analysed.
struct Last {
    detection: Box<Detection>,
    scene: Scene,
    running_time: u64,
}

impl<'a> Drawing<'a> {
    pub fn new(
        settings: &'a Settings,
        classes: Vec<String>,
        detections: Sender<Box<Detection>>,
        newest: Option<Newest>,
    ) -> Result<Self> {
        let version = settings.version();
        let painter = painter(settings, &classes)?;
        let (scale, caption) = (RunningScale::default(), Caption { lines: notes(settings) });
        let notes = caption.lines.len();
        Ok(Self {
            settings,
            version,
            painter,
            scale,
            caption,
            notes,
            classes,
            detections,
            newest,
            unseen: false,
            keeps_last: false,
            last: None,
            aligner: Aligner::default(),
        })
    }

    /// Sets whether frames without a result get the last one. One more detection is then on its way.
    pub fn keep_last(&mut self, keeps_last: bool) {
        self.keeps_last = keeps_last;
    }

    /// Passes frames on as they are from here on: they are not shown.
    pub fn draw_nothing(&mut self) {
        self.unseen = true;
    }

    /// Draws the result of the frame.
    pub fn draw(&mut self, frame: Passage<Recorded>) -> Result<Drawn> {
        let version = self.settings.version();
        if version != self.version {
            self.painter = painter(self.settings, &self.classes)?;
            self.caption.lines = notes(self.settings);
            self.notes = self.caption.lines.len();
            self.version = version;
        }
        match frame {
            Passage::Analysed(Recorded { frame, detection, permit }) if self.unseen => {
                let ood_share = detection.ood_share;
                return_detection(&self.detections, detection);
                Ok(Drawn { frame, ood_share, permit })
            }
            Passage::Analysed(recorded) => {
                self.painter.set_scene(Some(recorded.scene()));
                let scene = self.keeps_last.then(|| recorded.scene().clone());
                let Recorded { mut frame, detection, permit } = recorded;
                if self.keeps_last {
                    self.aligner.start(frame.map()?.i420().y);
                }
                let (ood_share, running_time) = (detection.ood_share, frame.running_time);
                let scale = self.scale.update(&detection);
                self.caption.lines.truncate(self.notes);
                paint(&mut self.painter, &mut frame, &detection, scale, &self.caption)?;
                let done = match scene {
                    Some(scene) => {
                        self.last.replace(Last { detection, scene, running_time }).map(|last| last.detection)
                    }
                    None => Some(detection),
                };
                if let Some(detection) = done {
                    return_detection(&self.detections, detection);
                }
                Ok(Drawn { frame, ood_share, permit })
            }
            Passage::Bare(Captured { mut frame, permit, .. }) => {
                let ood_share = match frame.lost {
                    Some(age) => {
                        self.no_signal(&mut frame, age)?;
                        0.0
                    }
                    None => self.draw_newest(&mut frame)?,
                };
                Ok(Drawn { frame, ood_share, permit })
            }
        }
    }

    /// Draws the newest result on a frame that has none of its own; the result's share of marked pixels.
    fn draw_newest(&mut self, frame: &mut Frame) -> Result<f32> {
        if let Some(Last { detection, scene, running_time }) = &self.last
            && self.aligner.follow(frame.map()?.i420().y)
        {
            self.aligner.apply(detection, scene);
            let Aligner { detection, scene, .. } = &self.aligner;
            self.painter.set_scene(Some(scene));
            let age = Duration::from_nanos(frame.running_time.saturating_sub(*running_time));
            self.caption.lines.truncate(self.notes);
            self.caption.lines.push(format!("result {:.1} s old", age.as_secs_f64()));
            let scale = self.scale.update(detection);
            paint(&mut self.painter, frame, detection, scale, &self.caption)?;
            return Ok(detection.ood_share);
        }
        // After a cut it has no place any more.
        if let Some(Last { detection, .. }) = self.last.take() {
            return_detection(&self.detections, detection);
        }
        let newest = self.newest.as_mut().and_then(|newest| newest.take(&self.detections));
        let Some(recorded) = newest else {
            self.painter_only(frame)?;
            return Ok(0.0);
        };
        self.painter.set_scene(Some(recorded.scene()));
        let Recorded { frame: seen, detection, .. } = recorded;
        let age = Duration::from_nanos(frame.running_time.saturating_sub(seen.running_time));
        self.caption.lines.truncate(self.notes);
        self.caption.lines.push(format!("result {:.1} s old", age.as_secs_f64()));
        let scale = self.scale.update(detection);
        paint(&mut self.painter, frame, detection, scale, &self.caption)?;
        Ok(detection.ood_share)
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

/// Legend lines for rules that differ from the defaults.
fn notes(settings: &Settings) -> Vec<String> {
    let Tunable { events, ignore, .. } = settings.get();
    let ignored = ignore.share();
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
    caption: &Caption,
) -> Result<()> {
    if painter.style().view == View::SideBySide {
        let mut wide = frame.new_like(beside_width(frame.width() as usize) as u32, frame.height())?;
        painter.paint_beside(
            &frame.map()?.i420(),
            &mut wide.map_mut()?.i420(),
            found,
            scale,
            found.threshold,
            caption,
        )?;
        *frame = wide;
        return Ok(());
    }
    painter.paint(&mut frame.map_mut()?.i420(), found, scale, found.threshold, caption)
}

/// The scores between which the colour map is spread: follows the frames slowly, so that colours do not flicker.
#[derive(Default)]
struct RunningScale(Option<ScoreScale>);

impl RunningScale {
    /// Weight of the newest frame.
    const PACE: f32 = 0.05;

    fn update(&mut self, detection: &Detection) -> ScoreScale {
        let threshold = detection.threshold;
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

    use super::*;
    use crate::gst;
    use crate::input;
    use crate::input::Read;
    use crate::output;

    #[test]
    fn a_result_on_a_later_frame_says_how_old_it_is() {
        gst::init().unwrap();
        let input = input::expand_input(&"test://black?frames=9&width=64&height=32&fps=25".into()).unwrap().remove(0);
        let input::Input::Test(spec) = input else { panic!("{input}") };
        let (mut reader, _) = output::file::open_test(&spec, None, &Default::default(), 0).unwrap();
        let mut frames = Vec::new();
        while let Read::Frame(frame) = reader.read(Duration::from_secs(20)).unwrap() {
            frames.push(frame);
        }
        let bare = |frame| Passage::Bare(Captured { frame, fresh: false, analyse: false, permit: Permit::default() });
        let (first, last) = (frames.remove(0), frames.pop().unwrap());
        let detection = Box::new(Detection {
            grid_score: Array2::zeros((4, 8)),
            score: Array2::zeros((32, 64)),
            mask: Array2::zeros((32, 64)),
            labels: Array2::zeros((0, 32)),
            clusters: Vec::new(),
            iterations: Vec::new(),
            threshold: 1.0,
            ood_share: 0.25,
        });
        let result = Passage::Analysed(Recorded { frame: first, detection, permit: Permit::default() });
        let ((done, finished), (permits, _kept), (detections, _back)) = (unbounded(), unbounded(), unbounded());
        let settings = Settings::new(Tunable::default());
        let mut drawing =
            Drawing::new(&settings, Vec::new(), detections, Some(Newest::new(finished, permits))).unwrap();
        // Before the first result there is no age to show.
        let drawn = drawing.draw(bare(last.share())).unwrap();
        assert!(drawing.caption.lines.is_empty() && drawn.ood_share == 0.0);
        done.send(result).unwrap();
        let drawn = drawing.draw(bare(last)).unwrap();
        assert_eq!(drawing.caption.lines, ["result 0.3 s old"]);
        assert_eq!(drawn.ood_share, 0.25);
    }
}
