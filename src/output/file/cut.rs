//! A part of a file as a file of its own, without encoding anything: from the key frame before its start.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::gst::{element, init, link};
use crate::{Error, ErrorKind, Result, atomic_file};

/// How long a file may take to show its streams, and how long a cut may make no progress.
const PATIENCE: Duration = Duration::from_secs(60);

/// What reads: the streams of the input, each into an appsink.
struct Reading {
    pipeline: gst::Pipeline,
    sinks: Arc<Mutex<Vec<gst_app::AppSink>>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Stops the writing pipeline on every way out.
struct Writing(gst::Pipeline);

impl Drop for Writing {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// Writes the part of `input` from `from` to `to`, in running time, to the MP4 file `output`: the compressed frames as
/// they are, from the last key frame at or before `from`, and the sound beside them. Returns what had to be left out, one
/// sentence each.
///
/// # Errors
/// The input cannot be read or does not seek, its video has no place in MP4, or the output exists or cannot be written.
pub fn cut(input: &Path, output: &Path, from: Duration, to: Duration) -> Result<Vec<String>> {
    init()?;
    let place = format!("{}: a clip of {}", output.display(), input.display());
    let failed = |what: &str| Error::failed(format!("{place}: {what}"));
    let io = |error: std::io::Error| Error::io(&place, error);
    let reading = read(input)?;
    let time = |time: Duration| gst::ClockTime::from_nseconds(time.as_nanos() as u64);
    reading
        .pipeline
        .seek(
            1.0,
            gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_BEFORE,
            gst::SeekType::Set,
            time(from),
            gst::SeekType::Set,
            time(to),
        )
        .map_err(|_| failed("the input cannot be read from the middle"))?;

    let file = atomic_file::create(output).map_err(io)?;
    let writing = Writing(gst::Pipeline::new());
    let (muxer, sink) = (element("mp4mux")?, element("filesink")?);
    sink.set_property("location", file.path());
    link(&writing.0, &[muxer.clone(), sink])?;
    let mut notes = Vec::new();
    let sinks = reading.sinks.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (mut pairs, mut has_video) = (Vec::new(), false);
    for sink in sinks {
        let caps = sink.static_pad("sink").and_then(|pad| pad.current_caps());
        let Some(name) = caps.as_ref().and_then(|caps| Some(caps.structure(0)?.name().to_string())) else { continue };
        let is_video = name.starts_with("video/") || name.starts_with("image/");
        if is_video && has_video {
            notes.push("further video streams are left out of clips".to_owned());
            continue;
        }
        match source(&writing.0, &muxer, caps.as_ref(), &name) {
            Ok(source) => pairs.push((sink, source)),
            Err(_) if !is_video => {
                notes.push(format!("{name} has no place in MP4 and is left out of clips"));
                continue;
            }
            Err(error) => return Err(error.at(format!("{place}: {name} has no place in MP4"))),
        }
        has_video |= is_video;
    }
    if !has_video {
        return Err(failed("there is no video stream"));
    }
    writing.0.set_state(gst::State::Playing).map_err(|_| failed("it cannot be written"))?;
    reading.pipeline.set_state(gst::State::Playing).map_err(|_| failed("the input cannot be read"))?;
    let open = Arc::new(AtomicU32::new(pairs.len() as u32));
    std::thread::scope(|scope| {
        for (sink, source) in &pairs {
            let open = Arc::clone(&open);
            scope.spawn(move || {
                let mut last = Instant::now();
                while last.elapsed() < PATIENCE {
                    match sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
                        Some(sample) if source.push_sample(&sample).is_ok() => last = Instant::now(),
                        Some(_) => break,
                        None if sink.is_eos() => break,
                        None => {}
                    }
                }
                let _ = source.end_of_stream();
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    let bus = writing.0.bus().ok_or_else(|| failed("a pipeline without a bus"))?;
    let wait = gst::ClockTime::try_from(PATIENCE).unwrap_or(gst::ClockTime::NONE.unwrap_or_default());
    let end = bus.timed_pop_filtered(wait, &[gst::MessageType::Eos, gst::MessageType::Error]);
    match end.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => {
            let error = error.error();
            if error.kind::<gst::ResourceError>() == Some(gst::ResourceError::NoSpaceLeft) {
                return Err(Error::of_kind(ErrorKind::StorageFull, format!("{place}: no space left on the disk")));
            }
            return Err(failed(&format!("it cannot be written: {}", error.message())));
        }
        Some(_) => {}
        None => return Err(failed("it did not come to its end")),
    }
    drop(writing);
    file.as_file().sync_all().map_err(io)?;
    file.persist_noclobber(output).map_err(|error| io(error.error))?;
    Ok(notes)
}

/// Opens the input and waits until all its streams are known.
fn read(input: &Path) -> Result<Reading> {
    let reading = Reading { pipeline: gst::Pipeline::new(), sinks: Arc::default() };
    let pipeline = &reading.pipeline;
    let source = element("filesrc")?;
    source.set_property("location", input);
    let parse = element("parsebin")?;
    link(pipeline, &[source, parse.clone()])?;
    // The pipeline owns the handler: a weak reference, or it would never be freed.
    let (weak, sinks) = (pipeline.downgrade(), Arc::clone(&reading.sinks));
    parse.connect_pad_added(move |_, pad| {
        let sink = gst_app::AppSink::builder().sync(false).max_buffers(64).build();
        let Some(pipeline) = weak.upgrade() else { return };
        let added = pipeline.add(&sink).is_ok() && sink.sync_state_with_parent().is_ok();
        if added && sink.static_pad("sink").is_some_and(|entry| pad.link(&entry).is_ok()) {
            sinks.lock().unwrap_or_else(PoisonError::into_inner).push(sink);
        }
    });
    let unopened = || Error::failed(format!("{}: it cannot be opened for clips", input.display()));
    pipeline.set_state(gst::State::Paused).map_err(|_| unopened())?;
    let wait = gst::ClockTime::try_from(PATIENCE).unwrap_or(gst::ClockTime::NONE.unwrap_or_default());
    let (ready, ..) = pipeline.state(wait);
    ready.map_err(|_| unopened())?;
    Ok(reading)
}

/// An appsrc for packets of `caps` on the way into the muxer.
fn source(
    pipeline: &gst::Pipeline,
    muxer: &gst::Element,
    caps: Option<&gst::Caps>,
    name: &str,
) -> Result<gst_app::AppSrc> {
    let source = gst_app::AppSrc::builder()
        .format(gst::Format::Time)
        .handle_segment_change(true)
        .block(true)
        .max_bytes(16 << 20)
        .build();
    source.set_caps(caps);
    let version = caps.and_then(|caps| caps.structure(0)?.get::<i32>("mpegversion").ok());
    let parser = match (name, version) {
        ("video/x-h264", _) => Some("h264parse"),
        ("video/x-h265", _) => Some("h265parse"),
        ("video/x-av1", _) => Some("av1parse"),
        ("audio/mpeg", Some(4)) => Some("aacparse"),
        _ => None,
    };
    let queue = element("queue")?;
    for limit in ["max-size-buffers", "max-size-bytes"] {
        queue.set_property(limit, 0u32);
    }
    queue.set_property("max-size-time", 0u64);
    let mut chain: Vec<gst::Element> = vec![source.clone().upcast()];
    if let Some(parser) = parser {
        chain.push(element(parser)?);
    }
    chain.push(queue);
    link(pipeline, &chain)?;
    let last = chain.last().and_then(|last| last.static_pad("src"));
    let linked = last.is_some_and(|pad| {
        let accepted = muxer.compatible_pad(&pad, caps);
        accepted.is_some_and(|entry| pad.link(&entry).is_ok())
    });
    if linked {
        return Ok(source);
    }
    for element in &chain {
        let _ = element.set_state(gst::State::Null);
        let _ = pipeline.remove(element);
    }
    Err(Error::failed(format!("{name} cannot be put into MP4")))
}
