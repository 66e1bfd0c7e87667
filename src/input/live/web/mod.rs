//! Pictures over HTTP: MJPEG, and HLS with all that its playlists name.
//!
//! ```text
//! source (an element) ! decodebin ! hlsdemux -+-> source: playlists again, keys
//!                                             '-> source: segments
//! ```
//! GStreamer sees addresses of a private scheme, `oodstream-http:`, and so contacts no server by itself. Every request
//! goes through the [`Fetcher`] of the connection, which enforces the rules:
//!
//! - the login goes to the server of the user's address alone, never in a weaker scheme than before ([`client`]);
//! - at most five consecutive redirections are followed, and playlists may name HTTP alone ([`playlist`]);
//! - everything a server sends is bounded, apart from the length of the stream itself.

mod client;
mod connector;
mod playlist;
mod source;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use url::Url;

use crate::input::live::connect::Tls;
use crate::input::live::reason::WEB_PAGE;
use crate::input::live::relay::{Finding, Report};
use crate::{Error, Result};
pub(crate) use client::Origin;
use client::{Client, Failure};
pub(crate) use source::FACTORY;

/// Scheme of the addresses that GStreamer sees.
const SCHEME: &str = "oodstream-http";
/// Largest playlist, in bytes.
const MAX_PLAYLIST: usize = 2 * 1024 * 1024;
/// Largest segment or key, in bytes.
const MAX_PART: u64 = 256 * 1024 * 1024;
/// Capacity between a download and GStreamer, in chunks of a body.
const WAITING: usize = 8;
/// First line of a playlist (RFC 8216, 4.3.1.1).
const PLAYLIST: &[u8] = b"#EXTM3U";

/// A range of bytes: its first one, and its length.
pub(crate) type Range = (u64, Option<u64>);

/// The downloads of one connection, until it is dropped.
pub(crate) struct Fetcher {
    shared: Arc<ClientState>,
    runtime: Option<Runtime>,
    id: u64,
}

struct ClientState {
    client: Client,
    report: Arc<Report>,
    /// Prefix of the addresses that GStreamer sees.
    prefix: String,
    /// The stream itself has been found.
    began: AtomicBool,
}

/// A download in progress; aborted on drop.
pub(crate) struct Download {
    pieces: mpsc::Receiver<std::result::Result<Bytes, Failure>>,
    task: AbortHandle,
}

impl Download {
    /// The next chunk; none at the end, or after the download was aborted.
    pub fn next(&mut self) -> Option<std::result::Result<Bytes, Failure>> {
        self.pieces.blocking_recv()
    }

    /// Ends the download from another thread.
    pub fn abort_handle(&self) -> AbortHandle {
        self.task.clone()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn fetchers() -> std::sync::MutexGuard<'static, HashMap<u64, Weak<Fetcher>>> {
    static FETCHERS: OnceLock<Mutex<HashMap<u64, Weak<Fetcher>>>> = OnceLock::new();
    FETCHERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fetcher {
    /// # Errors
    /// No thread can be started, or the element cannot be registered.
    pub fn start(origin: Origin, tls: Tls, report: Arc<Report>) -> Result<Arc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        source::register()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("http-client")
            .enable_all()
            .build()
            .map_err(|e| Error::failed(format!("no thread can be started for a live input: {e}")))?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{SCHEME}://{id}");
        let client = Client::new(origin, tls, Arc::clone(&report));
        let shared = Arc::new(ClientState { client, report, prefix, began: AtomicBool::new(false) });
        let fetcher = Arc::new(Self { shared, runtime: Some(runtime), id });
        fetchers().insert(id, Arc::downgrade(&fetcher));
        Ok(fetcher)
    }

    /// The address of the stream at `url`, as GStreamer sees it.
    pub fn location(&self, url: &Url) -> String {
        format!("{}/stream/{url}", self.shared.prefix)
    }

    /// Starts the download of an address that GStreamer sees; none if it is malformed, or its connection has ended.
    fn open(location: &str, range: Option<Range>) -> Option<Download> {
        let rest = location.strip_prefix(SCHEME)?.strip_prefix("://")?;
        let (id, rest) = rest.split_once('/')?;
        let (kind, url) = rest.split_once('/')?;
        let url = Url::parse(url).ok()?;
        let fetcher = fetchers().get(&id.parse().ok()?)?.upgrade()?;
        let (to, pieces) = mpsc::channel(WAITING);
        let (shared, stream) = (Arc::clone(&fetcher.shared), kind == "stream");
        let task = fetcher.runtime.as_ref()?.spawn(async move {
            if let Err(failure) = shared.download(url, stream, range, &to).await {
                shared.find(&failure, stream);
                // Fails if the receiver is gone.
                let _ = to.send(Err(failure)).await;
            }
        });
        Some(Download { pieces, task: task.abort_handle() })
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        fetchers().remove(&self.id);
        if let Some(runtime) = self.runtime.take() {
            // Does not wait for a slow DNS lookup.
            runtime.shutdown_background();
        }
    }
}

impl ClientState {
    /// Reports a failure that ends the connection. GStreamer handles missing segments; a missing stream and anything
    /// that must not be read are final.
    fn find(&self, failure: &Failure, stream: bool) {
        let ends = match failure.finding {
            Finding::Denied(_) | Finding::Moved(_) => true,
            Finding::Refused(_) if failure.final_ => true,
            _ => stream && !self.began.load(Ordering::Acquire),
        };
        if ends {
            self.report.find(failure.finding.clone());
        }
    }

    async fn download(
        &self,
        url: Url,
        stream: bool,
        range: Option<Range>,
        to: &mpsc::Sender<std::result::Result<Bytes, Failure>>,
    ) -> std::result::Result<(), Failure> {
        let (response, base) = self.client.get(url, range).await?;
        if stream && is_page(&response) {
            return Err(Failure::refused(WEB_PAGE));
        }
        let limit = if stream { u64::MAX } else { MAX_PART };
        let mut body = response.into_body();
        // Enough to recognise a playlist.
        let mut head = Vec::new();
        while head.len() < PLAYLIST.len() {
            match piece(&mut body).await? {
                Some(bytes) => head.extend_from_slice(&bytes),
                None => break,
            }
        }
        if stream {
            self.began.store(true, Ordering::Release);
        }
        if is_playlist(&head) {
            while let Some(bytes) = piece(&mut body).await? {
                head.extend_from_slice(&bytes);
                if head.len() > MAX_PLAYLIST {
                    return Err(Failure::refused(format!(
                        "the playlist is larger than {} MB",
                        MAX_PLAYLIST / 1024 / 1024
                    )));
                }
            }
            let text = String::from_utf8_lossy(&head);
            let name = |url: &Url| format!("{}/part/{url}", self.prefix);
            head = playlist::rewrite(&text, &base, &name).map_err(Failure::refused)?.into_bytes();
        }
        let mut sent = head.len() as u64;
        if !head.is_empty() && to.send(Ok(head.into())).await.is_err() {
            return Ok(());
        }
        while let Some(bytes) = piece(&mut body).await? {
            sent += bytes.len() as u64;
            if sent > limit {
                return Err(Failure::refused(format!("a segment is larger than {} MB", MAX_PART / 1024 / 1024)));
            }
            if to.send(Ok(bytes)).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

async fn piece(body: &mut Incoming) -> std::result::Result<Option<Bytes>, Failure> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::broken(&e))?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn is_page<T>(response: &Response<T>) -> bool {
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/html")
}

fn is_playlist(head: &[u8]) -> bool {
    // After the byte order mark that some editors write.
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).starts_with(PLAYLIST)
}
