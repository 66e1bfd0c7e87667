//! `webhook:URL`: each message as the JSON body of a POST request.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, LOCATION, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rumqttc::tokio_rustls::rustls::RootCertStore;
use sha2::{Digest, Sha256};
use url::Url;

use super::hex;
use super::outbox::{Backoff, Message, Outbox};
use super::secret::{self, WEBHOOK_SECRET};
use super::settings::{Header, WebhookConfig};
use super::tls;
use crate::{Error, Result};

/// Redirections of one request.
const MAX_HOPS: usize = 3;
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends messages to a receiver over HTTP.
pub(super) struct Webhook {
    url: Url,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    headers: Vec<Header>,
    secret: Option<String>,
    timeout: Duration,
    give_up: Duration,
    outbox: Arc<Outbox>,
}

/// Why a message was not accepted.
struct Failure {
    reason: String,
    /// The receiver does not want it, now or later.
    refused: bool,
}

impl Failure {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), refused: false }
    }
}

impl Webhook {
    /// Prepares the requests to `url`.
    ///
    /// # Errors
    /// The secret or a certificate cannot be read.
    pub fn new(url: &Url, config: &WebhookConfig, outbox: Arc<Outbox>) -> Result<Self> {
        let secret = secret::read("webhook.secret_file", config.secret_file.as_deref(), WEBHOOK_SECRET)?;
        let roots = match url.scheme() {
            "https" => tls::roots("webhook.tls_ca", config.tls_ca.as_deref())?,
            // It is never redirected to another scheme.
            _ => RootCertStore::empty(),
        };
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls::client(roots)?).https_or_http().enable_http1();
        // A connection for each message: events are rare, and an old connection may be dead.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(builder.build());
        Ok(Self {
            url: url.clone(),
            client,
            headers: config.headers.clone(),
            secret,
            timeout: Duration::from_secs_f64(config.timeout_s),
            give_up: Duration::from_secs_f64(config.give_up_s),
            outbox,
        })
    }

    /// Delivers messages, one after the other, until the outbox is closed and empty.
    pub async fn run(self) {
        let status = &self.outbox.status;
        while let Some(message) = self.outbox.next().await {
            let mut pause = Backoff::up_to(LONGEST_PAUSE);
            loop {
                let Err(failure) = self.post(&message).await else {
                    status.sent();
                    break;
                };
                status.failed(&failure.reason);
                if failure.refused || message.since.elapsed() >= self.give_up {
                    status.dropped(1);
                    break;
                }
                pause.wait().await;
            }
        }
    }

    async fn post(&self, message: &Message) -> Result<(), Failure> {
        let mut url = self.url.clone();
        for _ in 0..=MAX_HOPS {
            let request = self.request(&url, message).map_err(|error| Failure::new(error.to_string()))?;
            let answer = tokio::time::timeout(self.timeout, self.client.request(request)).await;
            let response = answer
                .map_err(|_| Failure::new(format!("no answer within {} s", self.timeout.as_secs_f64())))?
                .map_err(|error| Failure::new(in_words(&error)))?;
            let status = response.status();
            match status {
                _ if status.is_success() => return Ok(()),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
                    let next = place.and_then(|place| url.join(place).ok());
                    let next = next.ok_or_else(|| Failure::new(format!("{status} without a place to go to")))?;
                    if next.origin() != self.url.origin() {
                        let to = next.origin().ascii_serialization();
                        return Err(Failure::new(format!("redirected to {to}, which is refused")));
                    }
                    url = next;
                }
                // These may pass; all else of 4xx will not.
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                    return Err(Failure::new(format!("answered with {status}")));
                }
                _ if status.is_client_error() => {
                    let reason = format!("answered with {status}; messages that are refused are dropped");
                    return Err(Failure { reason, refused: true });
                }
                _ => return Err(Failure::new(format!("answered with {status}"))),
            }
        }
        Err(Failure::new(format!("redirected more than {MAX_HOPS} times")))
    }

    fn request(&self, url: &Url, message: &Message) -> Result<Request<Full<Bytes>>> {
        let body = message.body.as_bytes();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("oodstream/", env!("CARGO_PKG_VERSION")))
            .header("X-Oodstream-Event", message.kind)
            // The same for each attempt.
            .header("X-Oodstream-Delivery", &hex(&Sha256::digest(body))[..32]);
        if let Some(secret) = &self.secret {
            request = request.header("X-Hub-Signature-256", format!("sha256={}", signature(secret, body)?));
        }
        for Header { name, value } in &self.headers {
            request = request.header(name, value);
        }
        request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| Error::failed("the request cannot be made").caused_by(error))
    }
}

/// HMAC-SHA256 (RFC 2104) of `body`, in hexadecimal digits.
fn signature(secret: &str, body: &[u8]) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|error| Error::failed("the secret of the signature").caused_by(error))?;
    mac.update(body);
    Ok(hex(&mac.finalize().into_bytes()))
}

/// The innermost reason, which says most.
fn in_words(error: &hyper_util::client::legacy::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("the receiver is not reachable: {innermost}")
}

#[cfg(test)]
mod tests {
    /// The second test case of RFC 4231.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(super::signature("Jefe", b"what do ya want for nothing?").unwrap(), expected);
    }
}
