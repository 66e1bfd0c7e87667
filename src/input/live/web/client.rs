//! The requests of a connection: redirections, the login, cookies, and the meaning of responses.

use std::collections::{HashMap, HashSet};
use std::error::Error as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use crate::address::mask;
use crate::input::live::address::{LiveInput, LiveSource, Login, Server};
use crate::input::live::connect::Tls;
use crate::input::live::login::{Authenticator, Denied, Trust};
use crate::input::live::relay::{Finding, Report};
use crate::input::live::web::Range;
use crate::input::live::web::connector::{Connector, Unreachable};
use crate::lock::lock;

/// Time limit for the head of a response.
const ANSWER: Duration = Duration::from_secs(10);
/// Time limit of an idle connection.
const IDLE: Duration = Duration::from_secs(20);
/// Limit of consecutive redirections.
const MAX_HOPS: usize = 5;
/// Limit of answers to challenges per request.
const MAX_TRIES: usize = 3;
/// Largest head of a response, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Limits of cookies per server, of servers with cookies, and of the length of a cookie.
const MAX_COOKIES: usize = 32;
const MAX_JARS: usize = 16;
const MAX_COOKIE: usize = 4096;
/// Capacity of the list of redirections already logged.
const MAX_NOTED: usize = 64;

/// The reason for a failed download.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub finding: Finding,
    /// The status code; 0 without a response.
    pub status: u16,
    /// The connection must end.
    pub final_: bool,
}

impl Failure {
    fn new(finding: Finding) -> Self {
        Self { finding, status: 0, final_: false }
    }

    /// Content that must not be read.
    pub fn refused(words: impl Into<String>) -> Self {
        Self { final_: true, ..Self::new(Finding::Refused(words.into())) }
    }

    /// The connection broke in the middle of a body.
    pub fn broken(e: &hyper::Error) -> Self {
        Self::new(Finding::Refused(format!("the connection broke: {e}")))
    }

    /// The reason as text.
    pub fn words(&self) -> &str {
        match &self.finding {
            Finding::Unreachable(words)
            | Finding::Denied(words)
            | Finding::Busy(words)
            | Finding::Moved(words)
            | Finding::Refused(words) => words,
        }
    }
}

/// The server of the user's address, and the login there.
pub(crate) struct Origin {
    pub server: Server,
    /// The input, for the log.
    pub name: String,
    pub login: Option<Login>,
    pub trust: Arc<Trust>,
}

pub(crate) struct Client {
    http: legacy::Client<Connector, Empty<Bytes>>,
    origin: Server,
    name: String,
    has_login: bool,
    login: Mutex<Authenticator>,
    /// By scheme, host and port.
    cookies: Mutex<HashMap<String, Vec<(String, String)>>>,
    noted: Mutex<HashSet<String>>,
    report: Arc<Report>,
}

impl Client {
    pub fn new(origin: Origin, tls: Tls, report: Arc<Report>) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(2)
            .http1_max_buf_size(MAX_HEAD)
            // As some cameras write them.
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http09_responses(true)
            .build(Connector { tls: Arc::new(tls), report: Arc::clone(&report) });
        Self {
            http,
            origin: origin.server,
            name: origin.name,
            has_login: origin.login.is_some(),
            login: Mutex::new(Authenticator::new(origin.login, origin.trust)),
            cookies: Mutex::default(),
            noted: Mutex::default(),
            report,
        }
    }

    /// Requests `url` and follows redirections. Returns the response and its final address.
    pub async fn get(&self, mut url: Url, range: Option<Range>) -> Result<(Response<Incoming>, Url), Failure> {
        for _ in 0..=MAX_HOPS {
            let response = self.get_once(&url, range).await?;
            let status = response.status();
            if status.is_success() {
                return Ok((response, url));
            }
            let location = response.headers().get(header::LOCATION).filter(|_| status.is_redirection());
            let Some(location) = location else { return Err(refusal(status)) };
            let next = location.to_str().ok().and_then(|location| url.join(location).ok());
            let next = next.filter(|next| matches!(next.scheme(), "http" | "https"));
            let Some(mut next) = next else {
                return Err(Failure::refused("the server redirects to an address that is not followed"));
            };
            // A login in it is the server's, not the user's.
            let (_, _) = (next.set_username(""), next.set_password(None));
            self.note(&next);
            url = next;
        }
        Err(Failure::refused(format!("the server redirects more than {MAX_HOPS} times")))
    }

    /// Logs a redirection.
    fn note(&self, to: &Url) {
        let shown = mask(to.as_str());
        let mut noted = lock(&self.noted);
        if noted.len() < MAX_NOTED && noted.insert(shown.clone()) {
            let keeps = !self.has_login || self.may_log_in(to);
            let without = if keeps { "" } else { ", without the login: it is another server" };
            tracing::info!("{}: the server redirects to {shown}{without}", self.name);
        }
    }

    /// Whether the user's login may go to `url`.
    fn may_log_in(&self, url: &Url) -> bool {
        match LiveInput::parse(url.as_str()) {
            Ok(Some(LiveInput { source: LiveSource::Http(server), .. })) => server.is_trusted_by(&self.origin),
            _ => false,
        }
    }

    /// One request, sent again with an answer to a challenge.
    async fn get_once(&self, url: &Url, range: Option<Range>) -> Result<Response<Incoming>, Failure> {
        let uri: Uri = url.as_str().parse().map_err(|_| Failure::refused("the address is malformed"))?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let trusted = self.may_log_in(url);
        for _ in 0..MAX_TRIES {
            let authorization = if trusted { self.lock_login().authorize("GET", &target, b"") } else { None };
            let answered = authorization.is_some();
            let mut request = Request::get(uri.clone())
                .header(header::USER_AGENT, concat!("oodstream/", env!("CARGO_PKG_VERSION")))
                .header(header::ACCEPT, "*/*");
            if let Some((first, length)) = range {
                let last = length.map_or(String::new(), |length| (first + length.saturating_sub(1)).to_string());
                request = request.header(header::RANGE, format!("bytes={first}-{last}"));
            }
            if let Some(cookies) = self.cookies_for(url) {
                request = request.header(header::COOKIE, cookies);
            }
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let request = request.body(Empty::new()).map_err(|_| Failure::refused("the address is malformed"))?;
            let response = self.send(request).await?;
            self.report.answer();
            self.keep_cookies(url, response.headers());
            if response.status() != StatusCode::UNAUTHORIZED {
                if answered {
                    self.lock_login().accept();
                }
                return Ok(response);
            }
            if !trusted && self.has_login {
                return Err(denied(
                    "401: another server than that of the address requires a login, and the user's is not sent there"
                        .to_owned(),
                ));
            }
            let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
            let challenges: Vec<_> = challenges.iter().filter_map(|value| value.to_str().ok()).collect();
            self.lock_login()
                .challenge(challenges.into_iter(), answered)
                .map_err(|why| denied(why.words("the server")))?;
        }
        Err(denied(Denied::WrongLogin.words("the server")))
    }

    /// Sends a request, and repeats it once if the connection breaks: servers close idle connections.
    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let again = request.clone();
        for (request, last) in [(request, false), (again, true)] {
            match tokio::time::timeout(ANSWER, self.http.request(request)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(e)) if last || e.is_connect() => return Err(unanswered(&e)),
                Ok(Err(_)) => {}
                Err(_) => break,
            }
        }
        Err(Failure::new(Finding::Refused("the server does not answer".to_owned())))
    }

    fn lock_login(&self) -> std::sync::MutexGuard<'_, Authenticator> {
        lock(&self.login)
    }

    /// Keeps the cookies of a response. They are sent to the same scheme, host and port alone.
    fn keep_cookies(&self, url: &Url, headers: &HeaderMap) {
        let mut jars = lock(&self.cookies);
        for cookie in headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let pair = cookie.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=').filter(|_| pair.len() <= MAX_COOKIE) else { continue };
            let origin = url.origin().ascii_serialization();
            if jars.len() >= MAX_JARS && !jars.contains_key(&origin) {
                continue;
            }
            let jar = jars.entry(origin).or_default();
            jar.retain(|(known, _)| known != name.trim());
            if jar.len() < MAX_COOKIES {
                jar.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }

    fn cookies_for(&self, url: &Url) -> Option<HeaderValue> {
        let jars = lock(&self.cookies);
        let jar = jars.get(&url.origin().ascii_serialization())?;
        let pairs: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        HeaderValue::from_str(&pairs.join("; ")).ok()
    }
}

fn denied(words: String) -> Failure {
    Failure { status: 401, ..Failure::new(Finding::Denied(words)) }
}

/// The meaning of an unsuccessful status code.
fn refusal(status: StatusCode) -> Failure {
    let finding = match status.as_u16() {
        403 => Finding::Denied(format!("{status}: this login has no access")),
        404 => Finding::Refused("404: there is nothing at this address".to_owned()),
        429 | 503 => Finding::Busy(format!("{status}: the server is busy; it is tried less often")),
        _ => Finding::Refused(format!("the server answers {status}")),
    };
    Failure { status: status.as_u16(), ..Failure::new(finding) }
}

/// The reason for a missing response.
fn unanswered(e: &legacy::Error) -> Failure {
    let mut cause = e.source();
    while let Some(e) = cause {
        if let Some(Unreachable(words)) = e.downcast_ref() {
            return Failure::new(Finding::Unreachable(words.clone()));
        }
        // The innermost cause is the most specific.
        match e.source() {
            Some(next) => cause = Some(next),
            None => {
                return Failure::new(Finding::Refused(format!("no valid response: {e}")));
            }
        }
    }
    Failure::new(Finding::Refused(format!("no valid response: {e}")))
}
