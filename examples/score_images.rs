//! Scores pictures one by one, without video and without GStreamer: `score_images a.jpg b.png ...`.

use oodstream::{Config, Detector, Error};

fn main() -> oodstream::Result<()> {
    let mut detector = Detector::new(None, &Config::default())?;
    for path in std::env::args().skip(1) {
        let picture = image::open(&path).map_err(|error| Error::failed(&path).caused_by(error))?.to_rgb8();
        let (width, height) = picture.dimensions();
        let finding = detector.detect_rgb(picture.as_raw(), width, height)?;
        println!("{path}: {:.2} % above {:.2}", 100.0 * finding.ood_share, finding.threshold);
        for region in &finding.regions {
            let class = &detector.classes()[region.nearest_class];
            println!("  {:?}, score up to {:.2}, most like {class}", region.bounding_box, region.peak_score);
        }
    }
    Ok(())
}
