//! Serves a live input with the unknown marked over RTSP, for a while:
//! `live_to_rtsp rtsp://camera/1 rtsp://127.0.0.1:8554/front 60`.

use std::thread;
use std::time::Duration;

use oodstream::{Config, Error, Session};

fn main() -> oodstream::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, seconds] = arguments.as_slice() else {
        return Err(Error::usage("live_to_rtsp INPUT rtsp://HOST:PORT/NAME SECONDS"));
    };
    let seconds = seconds.parse().map_err(|error| Error::usage(format!("`{seconds}` seconds")).caused_by(error))?;
    let session = Session::builder(Config::default())
        .input(input)
        .output(output)
        .stop_after(Some(Duration::from_secs_f64(seconds)))
        .build()?;
    // A handle works from any thread: it stops, reloads and observes the run.
    let handle = session.handle();
    let running = thread::spawn(move || session.run());
    while !running.is_finished() {
        thread::sleep(Duration::from_millis(500));
        for stream in handle.streams() {
            let seen = stream.meter.read();
            println!("{}: {} frames in, {} out", stream.meter.name(), seen.frames_in, seen.frames_out);
        }
    }
    let report = running.join().map_err(|_| Error::failed("the run panicked"))??;
    println!("{} frames served", report.inputs.iter().map(|input| input.frames_out).sum::<u64>());
    Ok(())
}
