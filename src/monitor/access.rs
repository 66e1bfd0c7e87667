//! Who may do what: passwords, tokens, sessions, and requests that come from other sites.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use axum::http::{HeaderMap, HeaderName, header};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::config::HttpConfig;
use crate::lock::lock;
use crate::{Error, Result};

/// Wrong passwords and tokens of one address within [`WINDOW`], after which it has to wait.
const TRIES: u32 = 5;
/// The time that wrong tries count.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose wrong tries are remembered.
const ADDRESSES: usize = 4096;
/// Passwords that wait to be checked, one after the other: each check takes a core for some time.
const WAITING: usize = 8;
/// The life of a session, and the number of them.
pub(super) const SESSION: Duration = Duration::from_secs(7 * 24 * 3600);
const SESSIONS: usize = 256;
/// Shortest token.
const TOKEN: usize = 16;

type Secret = [u8; 32];

/// The credentials that a client must present.
pub(super) struct Access {
    password: Option<Arc<PasswordHash>>,
    token: Option<Secret>,
    /// By the hash of their identity, with their end.
    sessions: Mutex<HashMap<Secret, Instant>>,
    /// Wrong tries, and the first of them.
    wrong: Mutex<HashMap<IpAddr, (u32, Instant)>>,
    waiting: Semaphore,
    checking: tokio::sync::Mutex<()>,
    /// The name of the session's cookie: cookies are shared by all ports of a host.
    cookie: String,
}

/// The end of a try to log in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// The identity of a new session.
    Done(String),
    /// The password is wrong.
    Wrong,
    /// Too many tries: again after this long.
    Later(Duration),
}

impl Access {
    /// # Errors
    /// The hash or the file of the token cannot be used.
    pub fn new(config: &HttpConfig) -> Result<Self> {
        let password = config.password_hash.as_deref().map(|text| {
            PasswordHash::new(text).ok().filter(|hash| hash.algorithm.as_str().starts_with("argon2")).ok_or_else(|| {
                Error::usage("http.password_hash is no Argon2 hash").hint("`oodstream password` makes one")
            })
        });
        let token = config.token.as_deref().map(|path| {
            let place = || format!("http.token {}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| Error::failed(format!("{}: {error}", place())))?;
            if text.trim().len() < TOKEN {
                return Err(Error::usage(format!("{}: the token is shorter than {TOKEN} characters", place()))
                    .hint("`openssl rand -hex 32` makes one"));
            }
            Ok(hashed(text.trim()))
        });
        Ok(Self {
            password: password.transpose()?.map(Arc::new),
            token: token.transpose()?,
            sessions: Mutex::default(),
            wrong: Mutex::default(),
            waiting: Semaphore::new(WAITING),
            checking: tokio::sync::Mutex::default(),
            cookie: "oodstream".to_owned(),
        })
    }

    /// Names the cookie of its sessions after its port.
    pub fn name_cookie(&mut self, port: u16) {
        self.cookie = format!("oodstream-{port}");
    }

    /// Whether anyone may do anything.
    pub fn is_open(&self) -> bool {
        self.password.is_none() && self.token.is_none()
    }

    /// Whether a request with `headers` from `peer` may do what is not open to anyone. A wrong token counts as a try.
    pub fn admits(&self, headers: &HeaderMap, peer: IpAddr) -> bool {
        if self.is_open() || self.session(headers).is_some() {
            return true;
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let (Some(bearer), Some(token)) = (bearer, &self.token) else { return false };
        if self.wait(peer).is_some() {
            return false;
        }
        let right = hashed(bearer.trim()) == *token;
        if !right {
            self.count_wrong(peer);
        }
        right
    }

    /// The time that `peer` has to wait after too many wrong tries.
    pub fn wait(&self, peer: IpAddr) -> Option<Duration> {
        let wrong = lock(&self.wrong);
        let (tries, since) = wrong.get(&network(peer))?;
        (*tries >= TRIES).then(|| WINDOW.saturating_sub(since.elapsed())).filter(|wait| !wait.is_zero())
    }

    fn count_wrong(&self, peer: IpAddr) {
        let mut wrong = lock(&self.wrong);
        wrong.retain(|_, (_, since)| since.elapsed() < WINDOW);
        if wrong.len() >= ADDRESSES {
            // The oldest gives way, so that memory stays bounded.
            if let Some(oldest) = wrong.iter().min_by_key(|(_, (_, since))| *since).map(|(address, _)| *address) {
                wrong.remove(&oldest);
            }
        }
        wrong.entry(network(peer)).or_insert((0, Instant::now())).0 += 1;
    }

    /// Checks `password`, and begins a session if it is right.
    pub async fn log_in(&self, password: String, peer: IpAddr) -> Login {
        let Some(hash) = self.password.clone() else { return Login::Wrong };
        if let Some(wait) = self.wait(peer) {
            return Login::Later(wait);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return Login::Later(Duration::from_secs(1)) };
        let _checking = self.checking.lock().await;
        // Those before it may have been wrong.
        if let Some(wait) = self.wait(peer) {
            return Login::Later(wait);
        }
        let check = move || Argon2::default().verify_password(password.as_bytes(), &*hash).is_ok();
        if !tokio::task::spawn_blocking(check).await.unwrap_or(false) {
            self.count_wrong(peer);
            tracing::warn!("http: a wrong password from {peer}");
            return Login::Wrong;
        }
        let mut identity = [0; 32];
        if getrandom::fill(&mut identity).is_err() {
            return Login::Later(Duration::from_secs(1));
        }
        let identity: String = identity.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sessions = lock(&self.sessions);
        sessions.retain(|_, end| *end > Instant::now());
        if sessions.len() >= SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, end)| **end).map(|(session, _)| *session);
            oldest.map(|oldest| sessions.remove(&oldest));
        }
        sessions.insert(hashed(&identity), Instant::now() + SESSION);
        Login::Done(identity)
    }

    /// Ends the session of a request.
    pub fn log_out(&self, headers: &HeaderMap) {
        if let Some(session) = self.session(headers) {
            lock(&self.sessions).remove(&session);
        }
    }

    /// The name of the session's cookie.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// The session of a request, if it is known.
    fn session(&self, headers: &HeaderMap) -> Option<Secret> {
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut values = cookies
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.cookie)
            .map(|(_, value)| hashed(value));
        let sessions = lock(&self.sessions);
        values.find(|session| sessions.get(session).is_some_and(|end| *end > Instant::now()))
    }
}

/// The hash of `password` for `http.password_hash`.
///
/// # Errors
/// The system gives no random numbers.
pub fn hash_password(password: &str) -> Result<String> {
    let hash: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| Error::failed(format!("the password cannot be hashed: {error}")))
}

/// Secrets are compared by their hashes, so that the time it takes says nothing about them.
fn hashed(secret: &str) -> Secret {
    Sha256::digest(secret).into()
}

/// The address by which tries are counted: for IPv6 the network of its first 64 bits.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// Whether the request is for a host that is not known (DNS rebinding): its `Host` is neither an IP address, nor
/// `localhost`, nor one of `names`.
pub(super) fn is_for_another_host(headers: &HeaderMap, names: &[String]) -> bool {
    let Some(host) = text(headers, header::HOST) else { return true };
    let bare =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host.as_str(), |(bare, _)| bare);
    let number = bare.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    !number && bare != "localhost" && !names.iter().any(|name| bare.eq_ignore_ascii_case(name))
}

/// Whether a page of another site sent the request through a browser, by `Origin` or `Sec-Fetch-Site`.
pub(super) fn is_of_another_site(headers: &HeaderMap) -> bool {
    let host = text(headers, header::HOST).unwrap_or_default();
    let other_origin =
        text(headers, header::ORIGIN).is_some_and(|origin| origin.split_once("://").is_none_or(|(_, of)| of != host));
    let cross = text(headers, HeaderName::from_static("sec-fetch-site"))
        .is_some_and(|site| site != "same-origin" && site != "none");
    other_origin || cross
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn requests_of_other_sites_are_foreign() {
        let foreign = |list: &[(&'static str, &'static str)]| {
            let headers = headers(list);
            is_for_another_host(&headers, &["cam.local".to_owned()]) || is_of_another_site(&headers)
        };
        for fine in [
            vec![("host", "127.0.0.1:9090")],
            vec![("host", "[::1]:9090")],
            vec![("host", "localhost")],
            vec![("host", "cam.local:80"), ("origin", "http://cam.local:80")],
            vec![("host", "10.0.0.1"), ("origin", "http://10.0.0.1"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(!foreign(&fine), "{fine:?}");
        }
        for wrong in [
            vec![],
            vec![("host", "evil.example:9090")],
            vec![("host", "localhost"), ("origin", "http://evil.example")],
            vec![("host", "localhost"), ("origin", "null")],
            vec![("host", "localhost"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(foreign(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_password_begins_a_session_and_wrong_ones_are_limited() {
        let hash = hash_password("open sesame").unwrap();
        assert!(hash.starts_with("$argon2id$") && !hash.contains("sesame"));
        let mut access = Access::new(&HttpConfig { password_hash: Some(hash), ..HttpConfig::default() }).unwrap();
        access.name_cookie(9090);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log_in = |password: &str, peer| runtime.block_on(access.log_in(password.to_owned(), peer));
        let Login::Done(session) = log_in("open sesame", HERE) else { panic!("it is the right one") };
        let with = headers(&[("cookie", &format!("a=b; oodstream-9090={session}"))]);
        assert!(access.admits(&with, HERE) && !access.admits(&headers(&[]), HERE));
        assert!(!access.admits(&headers(&[("cookie", &format!("oodstream-8080={session}"))]), HERE));
        access.log_out(&with);
        assert!(!access.admits(&with, HERE));
        for _ in 0..TRIES {
            assert_eq!(log_in("sesame", HERE), Login::Wrong);
        }
        assert!(matches!(log_in("open sesame", HERE), Login::Later(_)));
        let there: IpAddr = "2001:db8::1".parse().unwrap();
        assert!(matches!(log_in("open sesame", there), Login::Done(_)));
        assert_eq!(network(there), network("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn hashes_of_other_kinds_and_short_tokens_are_refused() {
        let hash = |text: &str| HttpConfig { password_hash: Some(text.to_owned()), ..HttpConfig::default() };
        for wrong in ["open sesame", "", "$2b$12$abcdefghijklmnopqrstuv", "$scrypt$ln=1$c2FsdHNhbHQ$aGFzaGhhc2g"] {
            let error = Access::new(&hash(wrong)).err().unwrap().to_string();
            assert!(error.contains("oodstream password") && (wrong.is_empty() || !error.contains(wrong)), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "short\n").unwrap();
        let config = HttpConfig { token: Some(file.path().to_path_buf().into()), ..HttpConfig::default() };
        assert!(Access::new(&config).err().unwrap().to_string().contains("shorter"));
        std::fs::write(file.path(), "a token of some length\n").unwrap();
        let access = Access::new(&config).unwrap();
        assert!(access.admits(&headers(&[("authorization", "Bearer a token of some length")]), HERE));
        for _ in 0..TRIES {
            assert!(!access.admits(&headers(&[("authorization", "Bearer another one")]), HERE));
        }
        assert!(!access.admits(&headers(&[("authorization", "Bearer a token of some length")]), HERE));
    }
}
