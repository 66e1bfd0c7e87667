//! The certificate of the server.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::HttpConfig;
use crate::{Error, Result};

/// The encryption of `config`; none without a certificate.
///
/// # Errors
/// One of certificate and key is missing, cannot be read, or does not fit the other.
pub(super) fn acceptor(config: &HttpConfig) -> Result<Option<TlsAcceptor>> {
    let (certificate, key): (&Path, &Path) = match (&config.certificate, &config.key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => return Err(Error::usage("http.certificate and http.key go together: one of them is missing")),
    };
    let unreadable = |what: &str, path: &Path, error: &dyn std::fmt::Display| {
        Error::failed(format!("{what} {}: {error}", path.display())).hint("both are PEM files")
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|chain| chain.collect::<Result<Vec<_>, _>>())
        .map_err(|error| unreadable("http.certificate", certificate, &error))?;
    if chain.is_empty() {
        return Err(unreadable("http.certificate", certificate, &"there is no certificate in it"));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("http.key", key, &error))?;
    let mut tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key_der))
        .map_err(|error| unreadable("http.certificate", certificate, &error))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}
