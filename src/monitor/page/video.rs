//! The pictures of a stream, one by one or as MJPEG, and those of events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use tokio::sync::watch;

use crate::monitor::routes::{LongLived, Site, error};
use crate::output::preview::{Preview, Shot};

/// Longest wait for a picture, after which the answer is that there is none.
const PATIENCE: Duration = Duration::from_secs(5);
/// A picture that is older is not the present.
const FRESH: Duration = Duration::from_secs(1);
/// The last picture is sent again after this long, which also shows whether the client is still there.
const AGAIN: Duration = Duration::from_secs(2);
/// Between the pictures of a video.
const BOUNDARY: &str = "oodstream-picture";
const NUMBER: HeaderName = HeaderName::from_static("x-picture");

/// `GET /api/streams/NAME/picture`
pub(super) async fn picture(
    Shared(site): Shared<Arc<Site>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(preview) = preview(&site, &name) else { return unknown() };
    let query = query.unwrap_or_default();
    let after = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "after");
    let after = after.and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
    let mut shots = preview.watch();
    match tokio::time::timeout(PATIENCE, next(&mut shots, after)).await {
        Ok(Some(shot)) => {
            ([(header::CONTENT_TYPE, "image/jpeg")], [(NUMBER, shot.number.to_string())], shot.jpeg).into_response()
        }
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

/// `GET /api/streams/NAME/video`
pub(super) async fn follow(Shared(site): Shared<Arc<Site>>, Path(name): Path<String>) -> Response {
    let Some(preview) = preview(&site, &name) else { return unknown() };
    let (sender, body) = Channel::new(1);
    tokio::spawn(send(preview, sender));
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    let mut response = ([(header::CONTENT_TYPE, kind)], Body::new(body)).into_response();
    response.extensions_mut().insert(LongLived);
    response
}

/// `GET /api/events/ID/picture`
pub(super) async fn of_event(Shared(site): Shared<Arc<Site>>, Path(id): Path<String>) -> Response {
    match site.board.event(&id) {
        Some(notice) if !notice.thumbnail.is_empty() => {
            let lasting = (header::CACHE_CONTROL, "private, max-age=86400, immutable");
            ([(header::CONTENT_TYPE, "image/jpeg"), lasting], notice.thumbnail.clone()).into_response()
        }
        _ => error(StatusCode::NOT_FOUND, "there is no picture of this event"),
    }
}

fn preview(site: &Site, name: &str) -> Option<Arc<Preview>> {
    site.session.stream(name)?.watched.map(|watched| Arc::clone(&watched.preview))
}

fn unknown() -> Response {
    error(StatusCode::NOT_FOUND, "there is no stream of this name")
}

/// The first picture of the present after number `after`.
async fn next(shots: &mut watch::Receiver<Shot>, after: u64) -> Option<Shot> {
    let is_new = |shot: &Shot| shot.number > after && shot.taken.is_some_and(|taken| taken.elapsed() < FRESH);
    shots.wait_for(is_new).await.ok().map(|shot| shot.clone())
}

/// Sends pictures for as long as the client takes them: always the newest, and the next is requested when the client
/// has taken the one before.
async fn send(preview: Arc<Preview>, mut sender: Sender<Bytes>) {
    let mut shots = preview.watch();
    let mut last = Shot::default();
    loop {
        match tokio::time::timeout(AGAIN, next(&mut shots, last.number)).await {
            Ok(Some(shot)) => last = shot,
            Ok(None) => return,
            // Nothing is to be sent again before the first picture.
            Err(_) if last.number == 0 => continue,
            Err(_) => {}
        }
        let head = format!("--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", last.jpeg.len());
        for part in [Bytes::from(head), last.jpeg.clone(), Bytes::from_static(b"\r\n")] {
            if sender.send_data(part).await.is_err() {
                return;
            }
        }
        preview.want();
    }
}
