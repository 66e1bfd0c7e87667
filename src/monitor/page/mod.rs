//! The page: what the streams look like now, what was found, and the settings in force. Its files are built in.
//!
//! | path | answers |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /api/feed` | server-sent events: `hello` with the last minutes, then `sample`, `event` and `settings` |
//! | `GET /api/streams/NAME/video` | the annotated video as MJPEG |
//! | `GET /api/streams/NAME/picture?after=N` | the next picture, a JPEG file whose number is in `X-Picture` |
//! | `GET /api/events/ID/picture` | the place of an event as it began, a JPEG file |
//! | `GET /api/events/ID/recording` | where its clip or recording is, and its time there |
//! | `GET /api/recordings/NUMBER` | a clip or recording, or a range of it |
//! | `GET /api/settings` | the settings in force |
//! | `POST /api/settings` | changes those that the JSON object names |
//! | `POST /api/save` | writes them to the pipeline file |
//! | `POST /login`, `POST /logout` | begins and ends a session |

mod controls;
mod feed;
mod recording;
mod save;
mod video;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};

pub(super) use feed::Feed;

use super::routes::Site;

/// Headers of every answer: the page may load and reach nothing but this server, and no other page may contain it.
pub(super) const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// The files of the page: path, type and content.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("/chart.js", "text/javascript; charset=utf-8", include_str!("chart.js")),
    ("/events.js", "text/javascript; charset=utf-8", include_str!("events.js")),
    ("/ignore.js", "text/javascript; charset=utf-8", include_str!("ignore.js")),
    ("/player.js", "text/javascript; charset=utf-8", include_str!("player.js")),
    ("/requests.js", "text/javascript; charset=utf-8", include_str!("requests.js")),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

/// Whether a file of the page is at `path`.
pub(super) fn is_static(path: &str) -> bool {
    FILES.iter().any(|(file, ..)| *file == path)
}

pub(super) fn router() -> Router<Arc<Site>> {
    let files = FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        let answer = move || async move {
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], content).into_response()
        };
        router.route(path, get(answer))
    });
    files
        .route("/api/feed", get(feed::follow))
        .route("/api/streams/{name}/video", get(video::follow))
        .route("/api/streams/{name}/picture", get(video::picture))
        .route("/api/events/{id}/picture", get(video::of_event))
        .route("/api/events/{id}/recording", get(recording::of_event))
        .route("/api/recordings/{number}", get(recording::file))
        .route("/api/settings", get(controls::read).post(controls::change))
        .route("/api/save", post(controls::save))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup_and_nothing_is_loaded_from_elsewhere() {
        for (path, _, content) in FILES {
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "style="]
            {
                assert!(!content.contains(word), "{path}: {word}");
            }
            let elsewhere = content.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{path}");
        }
        let page = FILES[0].2;
        let handler = regex_lite::Regex::new(r"\son[a-z]+\s*=").unwrap();
        assert!(!page.contains("<style") && !page.contains("<script>") && !handler.is_match(page), "inline code");
    }
}
