//! The recordings and clips of the streams, and where they show an event.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;
use tower_http::services::ServeFile;

use crate::monitor::routes::{LongLived, Site, error, json as answer};
use crate::ood::alarm::Event;
use crate::output::publish::{Recordings, VideoFile};
use crate::session::StreamStatus;

/// What is played before an event, in seconds.
const LEAD_S: f64 = 2.0;

/// `GET /api/events/ID/recording`
pub(super) async fn of_event(Shared(site): Shared<Arc<Site>>, Path(id): Path<String>) -> Response {
    let Some(notice) = site.board.event(&id) else {
        return error(StatusCode::NOT_FOUND, "there is no such event, or there were many since");
    };
    let stream = site.session.stream(&notice.event.stream);
    let Some(file) = stream.and_then(|stream| find(&stream, &notice.event)) else {
        return error(StatusCode::NOT_FOUND, "there is no video of this event: not yet, or not any more");
    };
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let at_s = (notice.event.start_s - file.start as f64 / 1e9 - LEAD_S).max(0.0);
    let video = format!("/api/recordings/{}", file.number);
    answer(StatusCode::OK, &json!({ "video": video, "at_s": at_s, "file": name }))
}

/// `GET /api/recordings/NUMBER`: the file, or the range of it that the request asks for.
pub(super) async fn file(Shared(site): Shared<Arc<Site>>, Path(number): Path<String>, request: Request) -> Response {
    let streams = site.session.streams();
    let found = number.parse().ok().and_then(|number| recordings(&streams).find_map(|files| files.number(number)));
    let Some((file, place)) = found.and_then(|file| file.location().map(|place| (file, place))) else {
        return error(StatusCode::NOT_FOUND, "there is no such recording, or it is not there any more");
    };
    let kind = match file.path.extension().and_then(|extension| extension.to_str()) {
        Some("mkv") => "video/x-matroska",
        Some("mov") => "video/quicktime",
        _ => "video/mp4",
    };
    match ServeFile::new(place).try_call(request).await {
        Ok(served) => {
            let mut response = served.map(Body::new);
            // Its name while it is written says nothing.
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            // A video is read while it is watched.
            response.extensions_mut().insert(LongLived);
            response
        }
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, &format!("the recording cannot be read: {failed}")),
    }
}

/// The clip of an event, or the recording of its time.
fn find(stream: &StreamStatus, event: &Event) -> Option<VideoFile> {
    let outputs = || recordings(std::slice::from_ref(stream));
    let clip = event.clip.as_deref().and_then(|path| outputs().find_map(|files| files.at(path.as_ref())));
    let recording = || {
        // A recording may begin while the event goes on.
        let times = [event.start_s, event.end_s].map(|time| (time.max(0.0) * 1e9) as u64);
        times.into_iter().find_map(|time| outputs().find_map(|files| files.showing(time)))
    };
    let is_there = |file: &VideoFile| file.location().is_some();
    clip.filter(is_there).or_else(|| recording().filter(is_there))
}

fn recordings(streams: &[StreamStatus]) -> impl Iterator<Item = &Recordings> {
    streams.iter().flat_map(|stream| &stream.outputs).map(|output| &output.recordings)
}
