//! Certificates, keys and revocation lists as they lie in files. Blocks on the file system.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::api::Problem;
use crate::config::NamedFile;
use crate::model::Timestamp;

/// A larger file is surely no certificate. The largest lists of revoked certificates have some megabytes.
const LARGEST: u64 = 64 << 20;

/// What is wrong with a file, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub(super) struct FileError {
    pub(super) path: PathBuf,
    message: String,
    /// What to do.
    hint: Option<String>,
}

impl FileError {
    pub(super) fn new(path: &Path, message: impl Into<String>, hint: &str) -> Self {
        Self { path: path.to_owned(), message: message.into(), hint: Some(hint.to_owned()) }
    }
}

impl FileError {
    /// The problem, told where the configuration names the file.
    pub(super) fn told(self, named: &NamedFile) -> Problem {
        named.problem(self.to_string(), self.hint)
    }
}

/// A chain with its key, and what is known of the first certificate.
#[derive(Debug)]
pub struct Pair {
    /// The file of the chain.
    pub cert: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
    /// The names that it proves, in lower case; `*.example.com` among them.
    pub names: Vec<String>,
    /// From when on it holds.
    pub not_before: Timestamp,
    /// Until when it holds.
    pub not_after: Timestamp,
    /// A hash of both files: tells whether they are other ones.
    pub(super) hash: u64,
    /// What rustls uses.
    pub(super) certified: Arc<CertifiedKey>,
}

/// Reads a whole file, which has to be a regular one.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "give the user that runs sluice the right to read it",
            io::ErrorKind::NotFound => "put the file there, or correct its name in the configuration",
            _ => "this should be a file in PEM",
        };
        FileError::new(path, format!("cannot be read: {error}"), hint)
    };
    // Opening a pipe would wait for its writer, perhaps for ever.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(failed(io::Error::other("it is larger than 64 MiB")));
    }
    Ok(bytes)
}

/// Every certificate in a PEM file; at least one.
pub(super) fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let chain = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, pem::Error>>();
    let chain = chain.map_err(|error| FileError::new(path, format!("is not PEM: {error}"), IS_PEM))?;
    if chain.is_empty() {
        let message = if PrivateKeyDer::from_pem_slice(bytes).is_ok() {
            "holds a key and no certificate: `cert` and `key` may be swapped"
        } else {
            "holds no certificate"
        };
        return Err(FileError::new(path, message, IS_PEM));
    }
    Ok(chain)
}

const IS_PEM: &str = "a certificate file begins with `-----BEGIN CERTIFICATE-----`";

/// Reads a chain and its key, and makes sure that they belong together.
pub(super) fn pair(provider: &CryptoProvider, cert: &Path, key: &Path) -> Result<Pair, FileError> {
    let (cert_bytes, key_bytes) = (read(cert)?, read(key)?);
    let mut hash = Xxh3::new();
    hash.update(&xxh3_64(&cert_bytes).to_le_bytes());
    hash.update(&xxh3_64(&key_bytes).to_le_bytes());
    let chain = certificates(cert, &cert_bytes)?;
    let private = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&key_bytes);
        if text.contains("ENCRYPTED") {
            let hint = "remove the passphrase: `openssl pkey -in KEY -out NEW`, and guard the file by its mode";
            return FileError::new(key, "the key is encrypted", hint);
        }
        let hint = "a key file begins with `-----BEGIN PRIVATE KEY-----`";
        FileError::new(key, format!("holds no key that can be read: {error}"), hint)
    })?;
    let signing = provider.key_provider.load_private_key(private).map_err(|error| {
        FileError::new(key, format!("the key cannot be used: {error}"), "use an ECDSA, RSA or Ed25519 key")
    })?;
    let (names, not_before, not_after) = facts(cert, &chain[0])?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        // A key that cannot tell its public half cannot be compared.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => {
            let message = format!("the key in {} does not belong to this certificate", key.display());
            let hint =
                "replace both files; `openssl x509 -noout -pubkey` and `openssl pkey -pubout` must print the same";
            return Err(FileError::new(cert, message, hint));
        }
    }
    let (cert, key) = (cert.to_owned(), key.to_owned());
    Ok(Pair { cert, key, names, not_before, not_after, hash: hash.digest(), certified: Arc::new(certified) })
}

/// Names, beginning and end of a certificate.
fn facts(path: &Path, der: &CertificateDer<'_>) -> Result<(Vec<String>, Timestamp, Timestamp), FileError> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| FileError::new(path, format!("the first certificate cannot be read: {error}"), IS_PEM))?;
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternatives)) = parsed.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase());
            }
        }
    } else if let Some(name) = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()) {
        // No client of today takes the common name for the host's, but an old inventory of certificates may.
        names.push(name.to_ascii_lowercase());
    }
    let time = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
    let validity = parsed.validity();
    Ok((names, time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}

/// Who signs: every certificate of a file, as roots.
pub(super) fn roots(path: &Path, bytes: &[u8]) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots.add(certificate).map_err(|error| {
            FileError::new(
                path,
                format!("a certificate in it cannot be a root: {error}"),
                "use the certificate of a CA",
            )
        })?;
    }
    Ok(roots)
}

/// Every revocation list of a file; at least one.
pub(super) fn revocations(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    const HINT: &str =
        "a revocation list begins with `-----BEGIN X509 CRL-----`; `openssl crl -inform DER` converts one";
    let lists = CertificateRevocationListDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, pem::Error>>();
    let lists = lists.map_err(|error| FileError::new(path, format!("is not PEM: {error}"), HINT))?;
    if lists.is_empty() {
        return Err(FileError::new(path, "holds no revocation list", HINT));
    }
    Ok(lists)
}

/// The pairs in a folder and in its subfolders, by name: `NAME.crt` or `NAME.pem` beside `NAME.key`, and `fullchain.pem`
/// beside `privkey.pem`, as certbot leaves them.
pub(super) fn pairs_in(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, FileError> {
    let failed = |error: io::Error| {
        FileError::new(folder, format!("the folder cannot be read: {error}"), "create it, or name a pair of files")
    };
    fs::read_dir(folder).map_err(failed)?;
    let mut found = Vec::new();
    for folder in folders(folder) {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            let extension = path.extension().unwrap_or_default();
            let key = if path.file_name().is_some_and(|name| name == "fullchain.pem") {
                folder.join("privkey.pem")
            } else if extension == "crt" || extension == "pem" {
                path.with_extension("key")
            } else {
                continue;
            };
            if key.exists() {
                found.push((path, key));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A folder with certificates and its subfolders: whose contents decide which pairs there are.
pub fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        // Kubernetes keeps the files themselves in hidden folders, and links to them.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.is_dir() {
            folders.push(path);
        }
    }
    folders
}

/// A hash of what several files hold.
pub(super) fn digest<'a>(contents: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = Xxh3::new();
    for bytes in contents {
        hash.update(&xxh3_64(bytes).to_le_bytes());
    }
    hash.digest()
}
