//! Writes frames of this program as a video with the unknown marked: `own_source marked.mp4`.

use std::time::Duration;

use oodstream::picture::RgbFrame;
use oodstream::{Config, Error, Session};

/// A grey road with a red box that moves to the right.
fn draw(index: u32) -> RgbFrame {
    let (width, height) = (320, 180);
    let mut data = vec![96; (width * height * 3) as usize];
    for y in 80..120 {
        for x in 10 * index..10 * index + 40 {
            let start = ((y * width + x) * 3) as usize;
            data[start..start + 3].copy_from_slice(&[200, 30, 30]);
        }
    }
    RgbFrame { width, height, data, running_time: Duration::from_millis(40) * index }
}

fn main() -> oodstream::Result<()> {
    let output = std::env::args().nth(1).ok_or_else(|| Error::usage("own_source OUTPUT"))?;
    let mut frames = (0..25).map(draw);
    let session =
        Session::builder(Config::default()).frames("generated", move || Ok(frames.next())).output(output).build()?;
    let report = session.run()?;
    println!("{} frames written", report.inputs[0].frames_out);
    Ok(())
}
