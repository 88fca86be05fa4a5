//! TLS to the nodes of one service.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::files;
use super::provider;
use crate::api::Problem;
use crate::config::{ClientTls, NamedFile};

/// Sessions that are remembered for one service: as many nodes as it may well have.
const SESSIONS: usize = 1024;

/// How the nodes of a service are spoken to. One for all of them and all workers, so that sessions are resumed.
#[derive(Debug)]
pub struct Client {
    settings: ClientTls,
    /// Of the files that it was made from.
    digest: u64,
    pub(in crate::net) config: Arc<ClientConfig>,
    /// Of the configuration; a node's own host if none.
    pub(in crate::net) server_name: Option<ServerName<'static>>,
}

impl Client {
    /// Reads what `settings` name. Blocks on the file system. `last` comes back if nothing differs from it: its sessions go on.
    ///
    /// # Errors
    /// The first file that cannot be used, or the system's roots if there are none; without a place in the configuration, if none of its keys is
    /// to blame.
    pub fn load(settings: &ClientTls, last: Option<&Arc<Self>>) -> Result<Arc<Self>, Problem> {
        let read = |file: &NamedFile| files::read(&file.path).map_err(|error| error.told(file));
        let ca = settings.ca.as_ref().map(|file| Ok((file, read(file)?))).transpose()?;
        let own = settings.certificate.as_ref().map(|(cert, key)| Ok((read(cert)?, read(key)?))).transpose()?;
        let own_bytes = own.iter().flat_map(|(cert, key)| [cert, key]);
        let digest = files::digest(ca.iter().map(|(_, bytes)| bytes).chain(own_bytes).map(Vec::as_slice));
        if let Some(last) = last.filter(|last| last.settings == *settings && last.digest == digest) {
            return Ok(Arc::clone(last));
        }
        let provider = provider(&[]);
        let failed = |error: &dyn std::fmt::Display| {
            let message = format!("TLS to nodes cannot be set up: {error}");
            match &settings.ca {
                Some(file) => file.problem(message, None),
                None => unplaced(message, None),
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?;
        let builder = if settings.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(Arc::clone(&provider))))
        } else {
            let roots = match &ca {
                Some((file, bytes)) => Arc::new(files::roots(&file.path, bytes).map_err(|error| error.told(file))?),
                None => system_roots()?,
            };
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            builder.with_webpki_verifier(verifier.map_err(|error| failed(&error))?)
        };
        let mut config = match &settings.certificate {
            Some((cert, key)) => {
                let pair = files::pair(&provider, &cert.path, &key.path).map_err(|error| {
                    let named = if error.path == key.path { key } else { cert };
                    error.told(named)
                })?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair.certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let server_name = settings.server_name.as_deref().and_then(|name| ServerName::try_from(name.to_owned()).ok());
        Ok(Arc::new(Self { settings: settings.clone(), digest, config: Arc::new(config), server_name }))
    }

    /// Reads the same files again.
    ///
    /// # Errors
    /// As in [`Self::load`].
    pub fn reload(self: &Arc<Self>) -> Result<Arc<Self>, Problem> {
        Self::load(&self.settings, Some(self))
    }

    /// What it was made from.
    pub fn settings(&self) -> &ClientTls {
        &self.settings
    }
}

/// A problem that no place in the configuration is to blame for.
fn unplaced(message: String, hint: Option<String>) -> Problem {
    let path = Path::new("TLS").to_owned();
    Problem { path, line: 0, column: 0, text: String::new(), width: 0, message, hint }
}

/// The system's roots, read once, when the first service needs them.
fn system_roots() -> Result<Arc<RootCertStore>, Problem> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let why = loaded.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        let hint = "install the package `ca-certificates`, or write `ca` in `[service.NAME.tls]`";
        return Err(unplaced(format!("the system's roots cannot be used: {why}"), Some(hint.into())));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

/// Takes any certificate: `insecure_skip_verify`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
