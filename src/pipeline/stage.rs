//! One stage: a named thread that takes messages from a bounded channel, works on them in order and hands them on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, Scope};

use crossbeam::channel::{Receiver, Sender};

use super::control::Control;
use super::stats::StageStats;
use crate::{Error, Result};

/// Starts the thread `name` that runs `body` to its end.
///
/// An error or a panic of `body` becomes the run's error. Its channel ends are dropped with it, so the stages before it
/// stop and those behind it drain.
///
/// # Errors
/// The system starts no more threads.
pub fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    control: &'scope Control,
    name: &'static str,
    body: impl FnOnce() -> Result<()> + Send + 'scope,
) -> Result<()> {
    let guarded = move || {
        // The body is consumed either way and what it borrowed is only read for the report afterwards.
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => control.fail(error),
            Err(panic) => control.fail(
                Error::failed(format!("stage {name} panicked: {}", panic_text(panic.as_ref())))
                    .hint("this is a defect of oodstream; the output holds the frames before it"),
            ),
        }
    };
    Builder::new()
        .name(name.to_owned())
        .spawn_scoped(scope, guarded)
        .map(|_| ())
        .map_err(|error| Error::failed(format!("cannot start the thread of stage {name}: {error}")))
}

/// The loop of a stage in the middle: every message from `input` through `work` to `output`, until `input` ends.
///
/// # Errors
/// The first error of `work`.
pub fn relay<T, U>(
    control: &Control,
    stats: &StageStats,
    input: &Receiver<T>,
    output: &Sender<U>,
    mut work: impl FnMut(T) -> Result<U>,
) -> Result<()> {
    while let Some(message) = control.receive(input) {
        stats.saw_queue(input.len() + 1);
        // Known before the stages behind this one see its end.
        let done = stats.time(|| work(message)).inspect_err(|error| control.fail(error.clone()))?;
        if !control.send(output, done) {
            break;
        }
    }
    Ok(())
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::bounded;

    use super::*;

    /// Feeds `count` numbers through a stage that runs `work`; what comes out, and the run's error.
    fn through(count: u32, work: impl Fn(u32) -> Result<u32> + Sync) -> (Vec<u32>, Option<Error>) {
        let control = Control::default();
        let (first, second) = (StageStats::new("first"), StageStats::new("second"));
        let mut out = Vec::new();
        std::thread::scope(|scope| {
            let (feed, input) = bounded(2);
            let (output, results) = bounded(2);
            let (control, work) = (&control, &work);
            spawn(scope, control, first.name(), move || {
                for n in 0..count {
                    if !control.send(&feed, n) {
                        break;
                    }
                }
                Ok(())
            })
            .unwrap();
            let second = &second;
            spawn(scope, control, second.name(), move || relay(control, second, &input, &output, work)).unwrap();
            while let Some(n) = control.receive(&results) {
                out.push(n);
            }
        });
        (out, control.take_error())
    }

    #[test]
    fn order_is_kept_and_nothing_is_lost() {
        let (out, error) = through(1000, |n| Ok(n * 2));
        assert_eq!(out, (0..1000).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(error, None);
    }

    #[test]
    fn an_error_ends_the_run_and_what_came_before_it_is_kept() {
        let (out, error) = through(1000, |n| if n == 7 { Err(Error::failed("seven")) } else { Ok(n) });
        assert_eq!(out, (0..7).collect::<Vec<_>>());
        assert_eq!(error.unwrap().to_string(), "seven");
    }

    #[test]
    fn a_panic_takes_the_same_road() {
        let (out, error) = through(1000, |n| if n == 3 { panic!("three") } else { Ok(n) });
        assert_eq!(out, vec![0, 1, 2]);
        let text = error.unwrap().to_string();
        assert!(text.contains("stage second panicked: three"), "{text}");
    }
}
