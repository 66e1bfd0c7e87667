//! The login at a server: Digest (MD5 and SHA-256, with and without `qop`) or Basic, by what it asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_auth::{ChallengeRef, PasswordClient, PasswordParams, parse_challenges};

use crate::input::live::address::Login;

/// What is known of a server from all connections to it.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// It has requested Digest: Basic would reveal the password to an impostor.
    digest: AtomicBool,
}

/// The reason why a challenge is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denied {
    NoLogin,
    WrongLogin,
    /// The scheme requested is weaker than before.
    Weaker,
    Unsupported(String),
}

impl Denied {
    /// The reason as text; `server` is the one that requests the login.
    pub fn words(&self, server: &str) -> String {
        match self {
            Self::NoLogin => format!("401: {server} requires a user and a password, and none are given"),
            Self::WrongLogin => "401: wrong user or password".to_owned(),
            Self::Weaker => format!(
                "401: {server} requests Basic authentication after Digest; the password is not sent in the clear"
            ),
            Self::Unsupported(scheme) => {
                format!("401: {server} requires authentication by {scheme}, which is not supported")
            }
        }
    }
}

/// Answers challenges with one login.
pub(crate) struct Authenticator {
    login: Option<Login>,
    trust: Arc<Trust>,
    client: Option<PasswordClient>,
    /// The login was accepted on this connection.
    accepted: bool,
}

impl Authenticator {
    pub fn new(login: Option<Login>, trust: Arc<Trust>) -> Self {
        Self { login, trust, client: None, accepted: false }
    }

    /// The value of `Authorization` for a request; none before the first challenge.
    pub fn authorize(&mut self, method: &str, uri: &str, body: &[u8]) -> Option<String> {
        let (login, client) = (self.login.as_ref()?, self.client.as_mut()?);
        let parameters =
            PasswordParams { username: &login.user, password: &login.password, uri, method, body: Some(body) };
        client.respond(&parameters).ok()
    }

    /// A request with `Authorization` was not refused.
    pub fn accept(&mut self) {
        self.accepted |= self.client.is_some();
    }

    /// Handles the challenges of a 401. `answered`: the request had an `Authorization`.
    ///
    /// A wrong login is tried once, as cameras lock out clients that try more often: a challenge after an answer is
    /// answered again only if the nonce was stale, or the login was accepted before.
    pub fn challenge<'a>(&mut self, values: impl Iterator<Item = &'a str>, answered: bool) -> Result<(), Denied> {
        if self.login.is_none() {
            return Err(Denied::NoLogin);
        }
        let values: Vec<&str> = values.collect();
        let challenges: Vec<ChallengeRef<'_>> =
            values.iter().filter_map(|value| parse_challenges(value).ok()).flatten().collect();
        let is = |challenge: &ChallengeRef<'_>, scheme: &str| challenge.scheme.eq_ignore_ascii_case(scheme);
        let stale = challenges.iter().any(|challenge| {
            let stale = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case("stale"));
            stale.is_some_and(|(_, value)| value.to_unescaped().eq_ignore_ascii_case("true"))
        });
        if answered && !stale && !self.accepted {
            return Err(Denied::WrongLogin);
        }
        let digests: Vec<_> = challenges.iter().filter(|challenge| is(challenge, "Digest")).collect();
        if !digests.is_empty() {
            self.trust.digest.store(true, Ordering::Release);
            let found =
                digests.iter().filter_map(|challenge| PasswordClient::try_from(*challenge).ok()).max_by_key(strength);
            self.client = Some(found.ok_or_else(|| Denied::Unsupported("this kind of Digest".to_owned()))?);
            return Ok(());
        }
        let Some(basic) = challenges.iter().find(|challenge| is(challenge, "Basic")) else {
            let scheme = challenges.first().map_or("an unknown scheme", |challenge| challenge.scheme);
            return Err(Denied::Unsupported(scheme.chars().take(20).collect()));
        };
        if self.trust.digest.load(Ordering::Acquire) {
            return Err(Denied::Weaker);
        }
        self.client = PasswordClient::try_from(basic).ok();
        self.client.is_some().then_some(()).ok_or_else(|| Denied::Unsupported("this kind of Basic".to_owned()))
    }
}

fn strength(client: &PasswordClient) -> u8 {
    match client {
        PasswordClient::Digest(digest) if digest.algorithm() != http_auth::digest::Algorithm::Md5 => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(login: bool) -> Authenticator {
        let login = login.then(|| Login { user: "u".to_owned(), password: "p".to_owned() });
        Authenticator::new(login, Arc::default())
    }

    const MD5: &str = r#"Digest realm="cam", nonce="1""#;
    const SHA: &str = r#"Digest realm="cam", nonce="1", algorithm=SHA-256, qop="auth""#;
    const BASIC: &str = r#"Basic realm="cam""#;

    #[test]
    fn the_strongest_scheme_is_answered() {
        for (challenges, holds) in [
            (vec![MD5], "nonce=\"1\""),
            (vec![BASIC, MD5, SHA], "algorithm=SHA-256"),
            (vec![r#"Digest realm="cam", nonce="1", qop="auth""#], "qop=auth"),
            (vec![BASIC], "Basic dTpw"),
        ] {
            let mut login = with(true);
            assert_eq!(login.authorize("PLAY", "rtsp://c/1", b""), None);
            login.challenge(challenges.iter().copied(), false).unwrap();
            let answer = login.authorize("PLAY", "rtsp://c/1", b"").unwrap();
            assert!(answer.contains(holds), "{answer}");
        }
    }

    #[test]
    fn a_wrong_login_is_tried_once_and_a_stale_nonce_is_none() {
        let mut login = with(true);
        login.challenge([MD5].into_iter(), false).unwrap();
        assert_eq!(login.challenge([MD5].into_iter(), true), Err(Denied::WrongLogin));
        assert_eq!(login.challenge([r#"Digest realm="cam", nonce="2", stale=TRUE"#].into_iter(), true), Ok(()));
        login.accept();
        assert_eq!(login.challenge([MD5].into_iter(), true), Ok(()));
        assert_eq!(with(false).challenge([MD5].into_iter(), false), Err(Denied::NoLogin));
    }

    #[test]
    fn never_a_weaker_scheme_than_before() {
        let mut login = with(true);
        login.challenge([MD5].into_iter(), false).unwrap();
        let mut next = Authenticator::new(login.login.clone(), Arc::clone(&login.trust));
        assert_eq!(next.challenge([BASIC].into_iter(), false), Err(Denied::Weaker));
        assert_eq!(next.authorize("PLAY", "rtsp://c/1", b""), None);
        assert!(matches!(with(true).challenge(["NTLM"].into_iter(), false), Err(Denied::Unsupported(_))));
    }
}
