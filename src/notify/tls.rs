//! The settings of encrypted connections.

use std::path::Path;
use std::sync::Arc;

use rumqttc::tokio_rustls::rustls::crypto::ring;
use rumqttc::tokio_rustls::rustls::pki_types::CertificateDer;
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject as _;
use rumqttc::tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::{Error, Result};

/// The certificate authorities in the file `authorities`, or else those of the system.
///
/// # Errors
/// The file cannot be read or holds none; the system has none.
pub fn roots(key: &str, authorities: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let place = format!("{key} = {}", path.display());
            let failed = |error| Error::failed(place.clone()).caused_by(error);
            for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
                let certificate = certificate.map_err(failed)?;
                roots.add(certificate).map_err(|error| Error::failed(place.clone()).caused_by(error))?;
            }
            if roots.is_empty() {
                return Err(Error::usage(format!("{place}: there is no certificate in it")));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Error::failed("this system has no certificate authorities")
                    .hint(format!("install ca-certificates, or name a PEM file in {key}")));
            }
        }
    }
    Ok(roots)
}

/// A client that trusts `roots`.
///
/// # Errors
/// The library has no cipher that is safe.
pub fn client(roots: RootCertStore) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::failed("TLS cannot be set up").caused_by(error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
