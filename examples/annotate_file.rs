//! Marks the unknown in a video file: `annotate_file drive.mp4 marked.mp4`.

use oodstream::{Config, Ending, InputReport, Observer, Session};

/// Prints the end of each input.
struct Printer;

impl Observer for Printer {
    fn ended(&self, report: &InputReport) {
        println!("{}: {} frames, {:.2} % unknown", report.path, report.frames_out, 100.0 * report.ood_share_mean);
        for note in &report.notes {
            println!("  note: {note}");
        }
    }
}

fn main() -> oodstream::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err(oodstream::Error::usage("annotate_file INPUT OUTPUT"));
    };
    let session = Session::builder(Config::default())
        .input(input)
        .output(output)
        .observer(std::sync::Arc::new(Printer))
        .build()?;
    let report = session.run()?;
    for input in report.inputs {
        if let Ending::Failed(error) = input.ending {
            return Err(error);
        }
    }
    Ok(())
}
