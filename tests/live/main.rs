//! Live inputs and outputs, and runs over them. [`soak`] holds long measurements, which are ignored by default.

mod calibrate;
mod clips;
mod dashboard;
mod device;
mod guards;
mod hostile;
mod input;
mod notify;
mod output;
mod page;
mod page_browser;
mod peers;
mod pipeline;
mod push;
mod run;
mod serve;
mod soak;
mod trouble;
mod web;
mod window;

/// The camera of the other tests: [`support::camera::Camera`] runs it in a process of its own.
#[test]
#[ignore = "the camera of other tests, run by them"]
fn camera_process() {
    support::camera::serve();
}
