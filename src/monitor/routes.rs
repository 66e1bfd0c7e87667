//! The paths of the server, and what every answer has in common.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::Deserialize;

use super::access::{Access, Login, SESSION, is_for_another_host, is_of_another_site};
use super::health::{State, health, output_health};
use super::metrics;
use super::page::{self, Feed};
use crate::session::Handle;
use crate::session::board::Board;

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What answers are made from.
pub(super) struct Site {
    pub session: Handle,
    pub board: Arc<Board>,
    pub access: Access,
    /// Names by which it may be reached.
    pub hosts: Vec<String>,
    /// Where settings are saved.
    pub file: Option<PathBuf>,
    pub encrypted: bool,
    pub feed: Feed,
}

/// The address of the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub IpAddr);

/// Marks an answer that lasts as long as the client follows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LongLived;

/// Whether the client has logged in, or need not.
#[derive(Debug, Clone, Copy)]
struct Admitted(bool);

pub(super) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/reload", put(reload).post(reload))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .merge(page::router())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

pub(super) fn error(status: StatusCode, error: &str) -> Response {
    json(status, &serde_json::json!({ "error": error }))
}

/// Whether anyone may have the answer: the page without content, and whether the program works.
fn is_public(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/login") || page::is_static(path)
}

/// Whether programs may ask for it by any name, as a Prometheus in the same network does.
fn is_for_programs(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

/// Lets requests through that may be answered, and adds to the answers what keeps a browser from more than is needed.
async fn guard(
    Shared(site): Shared<Arc<Site>>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let other_host = !is_for_programs(path) && is_for_another_host(request.headers(), &site.hosts);
    // Links from elsewhere may lead to the page, which is empty without what it asks for.
    let other_site =
        !(reads && (is_for_programs(path) || page::is_static(path))) && is_of_another_site(request.headers());
    let admitted = site.access.admits(request.headers(), peer);
    let mut response = if other_host || other_site {
        error(
            StatusCode::FORBIDDEN,
            "the request comes from another site, or is for a host that http.hosts does not name",
        )
    } else if !admitted && !is_public(path) {
        match site.access.wait(peer) {
            Some(wait) => later(wait),
            None => {
                let mut response = error(StatusCode::UNAUTHORIZED, "a password or a token is needed");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
        }
    } else {
        request.extensions_mut().insert(Admitted(admitted));
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in page::HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn later(wait: std::time::Duration) -> Response {
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, "too many wrong passwords or tokens");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    response
}

async fn healthz(Shared(site): Shared<Arc<Site>>, Extension(Admitted(admitted)): Extension<Admitted>) -> Response {
    let streams: Vec<_> = site.session.streams().iter().map(health).collect();
    let down = streams.is_empty() || streams.iter().any(|stream| stream.state == State::Down);
    let status = if down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    // Names and reasons are for those who have logged in.
    let said = if admitted {
        let outputs: Vec<_> = site.session.messages().iter().map(|status| output_health(status)).collect();
        serde_json::json!({ "streams": streams, "outputs": outputs })
    } else {
        serde_json::json!({})
    };
    json(status, &said)
}

async fn readyz(Shared(site): Shared<Arc<Site>>) -> Response {
    let ready = site.session.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &serde_json::json!({ "ready": ready }))
}

async fn metrics(Shared(site): Shared<Arc<Site>>) -> Response {
    match metrics::text(&site.session) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    }
}

async fn reload(Shared(site): Shared<Arc<Site>>) -> Response {
    if !site.session.is_ready() {
        return error(StatusCode::SERVICE_UNAVAILABLE, "not ready yet");
    }
    match site.session.reload() {
        Ok(now) => json(StatusCode::OK, &serde_json::json!({ "reloaded": now })),
        Err(failed) => error(StatusCode::BAD_REQUEST, &failed.to_string()),
    }
}

#[derive(Deserialize)]
struct Password {
    password: String,
}

async fn log_in(Shared(site): Shared<Arc<Site>>, Extension(Peer(peer)): Extension<Peer>, body: Bytes) -> Response {
    // The error of the parser could quote the password.
    let Ok(Password { password }) = serde_json::from_slice(&body) else {
        return error(StatusCode::BAD_REQUEST, "expected {\"password\": \"...\"}");
    };
    match site.access.log_in(password, peer).await {
        Login::Wrong => error(StatusCode::UNAUTHORIZED, "the password is wrong"),
        Login::Later(wait) => later(wait),
        Login::Done(session) => set_cookie(&site, &session, SESSION.as_secs()),
    }
}

async fn log_out(Shared(site): Shared<Arc<Site>>, headers: HeaderMap) -> Response {
    site.access.log_out(&headers);
    set_cookie(&site, "", 0)
}

fn set_cookie(site: &Site, session: &str, seconds: u64) -> Response {
    let secure = if site.encrypted { "; Secure" } else { "" };
    let cookie = site.access.cookie();
    let text = format!("{cookie}={session}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}
