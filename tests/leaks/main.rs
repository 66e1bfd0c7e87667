//! Descriptors, threads and memory that connections leave behind: a binary of its own, because they are counted for the
//! whole process. Each test takes [`support::live::alone`].

mod connect;
mod serve;

/// The camera of the other tests: [`support::camera::Camera`] runs it in a process of its own.
#[test]
#[ignore = "the camera of other tests, run by them"]
fn camera_process() {
    support::camera::serve();
}
