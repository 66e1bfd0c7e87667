//! Access to servers: users with passwords, and the certificate of encrypted ones. Messages never hold a password.

use std::fs;
use std::path::Path;

use gst::glib;
use gstreamer as gst;
use gstreamer_rtsp_server as rtsp;
use rtsp::gio;
use rtsp::gio::prelude::*;
use rtsp::prelude::*;

use crate::address::Server;
use crate::output::publish::ServeOptions;
use crate::{Error, Result};

/// The only role.
const ROLE: &str = "watcher";

/// Basic and digest, as bits: the binding has only single values.
const BOTH: rtsp::gst_rtsp::RTSPAuthMethod = rtsp::gst_rtsp::RTSPAuthMethod::__Unknown(1 | 2);

/// The authentication of a server; none where anyone may watch unencrypted.
pub(crate) fn auth(address: &Server, options: &ServeOptions) -> Result<Option<rtsp::RTSPAuth>> {
    let users = options.users.as_deref().map(read_users).transpose()?;
    let certificate = if address.tls() { Some(certificate(address, options)?) } else { None };
    if users.is_none() && certificate.is_none() {
        return Ok(None);
    }
    let auth = rtsp::RTSPAuth::new();
    auth.set_supported_methods(BOTH);
    let token = || rtsp::RTSPToken::builder().field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, ROLE).build();
    match users {
        Some(users) => {
            for (user, password) in users {
                auth.add_basic(&rtsp::RTSPAuth::make_basic(&user, &password), &token());
                auth.add_digest(&user, &password, &token());
            }
        }
        None => auth.set_default_token(Some(&mut token())),
    }
    auth.set_tls_certificate(certificate.as_ref());
    Ok(Some(auth))
}

/// Permits the role to watch the media of `factory`.
pub(crate) fn permit(factory: &rtsp::RTSPMediaFactory) {
    let allowed = gst::Structure::builder(ROLE)
        .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
        .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
        .build();
    factory.add_role_from_structure(&allowed);
}

/// Reads one `user:password` per line; empty lines and those that begin with `#` are skipped.
fn read_users(path: &Path) -> Result<Vec<(String, String)>> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|e| Error::failed(format!("users: {shown} cannot be read: {e}")))?;
    let mut users: Vec<(String, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| {
            Error::failed(format!("users: {shown}, line {}: {what}", number + 1)).hint("one `user:password` a line")
        };
        let (user, password) = line.split_once(':').ok_or_else(|| wrong("there is no `:`"))?;
        if user.is_empty() || password.is_empty() {
            return Err(wrong("the user or the password is empty"));
        }
        if users.iter().any(|(other, _)| other == user) {
            return Err(wrong("this user is listed twice"));
        }
        users.push((user.to_owned(), password.to_owned()));
    }
    if users.is_empty() {
        return Err(Error::failed(format!("users: {shown} holds no user")).hint("one `user:password` a line"));
    }
    Ok(users)
}

/// The server's certificate with its key, tested.
fn certificate(address: &Server, options: &ServeOptions) -> Result<gio::TlsCertificate> {
    let (Some(certificate), Some(key)) = (&options.certificate, &options.key) else {
        return Err(Error::usage(format!("{address}: an encrypted server needs a certificate and its key"))
            .hint("give both as PEM files, `certificate` and `key` of [serve]"));
    };
    for (what, path) in [("certificate", certificate), ("key", key)] {
        let shown = path.display();
        let text =
            fs::read_to_string(path).map_err(|e| Error::failed(format!("{what}: {shown} cannot be read: {e}")))?;
        if !text.contains("-----BEGIN ") {
            return Err(Error::failed(format!("{what}: {shown} is not a PEM file")));
        }
    }
    if !gio::TlsBackend::default().supports_tls() {
        return Err(
            Error::failed(format!("{address}: there is no TLS on this system")).hint("apt-get install glib-networking")
        );
    }
    let shown = format!("{} with {}", certificate.display(), key.display());
    let loaded = gio::TlsCertificate::from_files(certificate, key)
        .map_err(|e| Error::failed(format!("certificate: {shown} cannot be used: {}", e.message())))?;
    let now = chrono::Utc::now().timestamp();
    let limit = |property: &str| {
        // Since GLib 2.70.
        loaded.find_property(property)?;
        loaded.property::<Option<glib::DateTime>>(property).map(|time| time.to_unix())
    };
    if limit("not-valid-after").is_some_and(|end| end < now) {
        return Err(Error::failed(format!("certificate: {} has expired", certificate.display())));
    }
    if limit("not-valid-before").is_some_and(|start| start > now) {
        return Err(Error::failed(format!("certificate: {} is not valid yet", certificate.display())));
    }
    #[cfg(unix)]
    shake_hands(&loaded, certificate, key).map_err(|e| {
        Error::failed(format!("certificate: {shown}: no connection can be made with them: {e}"))
            .hint("the key does not belong to this certificate")
    })?;
    Ok(loaded)
}

/// Connects to itself: there is no other way to test that a key belongs to a certificate.
#[cfg(unix)]
fn shake_hands(loaded: &gio::TlsCertificate, certificate: &Path, key: &Path) -> std::result::Result<(), String> {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    fn connection(stream: UnixStream) -> std::result::Result<gio::SocketConnection, glib::Error> {
        let socket = gio::Socket::from_fd(OwnedFd::from(stream))?;
        socket.set_timeout(5);
        Ok(socket.connection_factory_create_connection())
    }
    let nobody = None::<&gio::Cancellable>;
    let (here, there) = UnixStream::pair().map_err(|e| e.to_string())?;
    let (certificate, key) = (certificate.to_path_buf(), key.to_path_buf());
    let server = std::thread::spawn(move || -> std::result::Result<(), glib::Error> {
        let loaded = gio::TlsCertificate::from_files(certificate, key)?;
        gio::TlsServerConnection::new(&connection(there)?, Some(&loaded))?.handshake(None::<&gio::Cancellable>)
    });
    let expected = loaded.clone();
    let client = connection(here)
        .and_then(|base| gio::TlsClientConnection::new(&base, None::<&gio::NetworkAddress>))
        .and_then(|client| {
            client.connect_accept_certificate(move |_, seen, _| seen.is_same(&expected));
            client.handshake(nobody)
        });
    let server = server.join().map_err(|_| "the test connection panicked".to_owned())?;
    client.and(server).map_err(|e| e.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_users(&path)
        };
        let users = read("# who\nann:se:cret\n\nbob: x\r\n").unwrap();
        assert_eq!(users, [("ann".into(), "se:cret".into()), ("bob".into(), " x".into())]);
        for (text, what) in [
            ("", "no user"),
            ("ann:hidden\nhidden", "line 2"),
            (":hidden", "empty"),
            ("ann:", "empty"),
            ("ann:hidden\nann:hidden2", "twice"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(what) && !error.contains("hidden"), "{text}: {error}");
        }
        assert!(read_users(&folder.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
    }
}
