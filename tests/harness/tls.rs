//! TLS in front of a plain server on this machine, with a certificate of its own, so that what encryption costs is
//! measured as well.

use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Where systems keep the authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Takes connections with TLS and hands on what comes through, until it is dropped.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    behind: Arc<OnceLock<SocketAddr>>,
    task: JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TlsFront {
    /// Stands in front of nothing yet, so that its address can be told to what is started behind it.
    ///
    /// # Errors
    /// No port is to be had, or no certificate can be made or written.
    pub async fn start() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()])?;
        let folder = tempfile::tempdir()?;
        let certificate = pem(cert.der());
        std::fs::write(folder.path().join("own.pem"), &certificate)?;
        // As on a function's machine, ours is one of many authorities, all of which have to be read.
        let mut trusted = std::fs::File::create(folder.path().join("trusted.pem"))?;
        if let Some(system) = SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok()) {
            trusted.write_all(&system)?;
        }
        trusted.write_all(certificate.as_bytes())?;
        let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let behind = Arc::new(OnceLock::new());
        let plain = Arc::clone(&behind);
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, plain) = (acceptor.clone(), plain.get().copied());
                tokio::spawn(async move { hand_on(&acceptor, connection, plain).await });
            }
        });
        Ok(Self { port, behind, task, folder })
    }

    /// Hands on to the server at `plain` from now on. Only the first one counts.
    pub fn lead_to(&self, plain: SocketAddr) {
        self.behind.get_or_init(|| plain);
    }

    /// Its address for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Its certificate (PEM), for clients that trust it besides others.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path("own.pem")
    }

    /// All that is trusted (PEM): the system's authorities and its certificate.
    #[must_use]
    pub fn trusted(&self) -> PathBuf {
        self.path("trusted.pem")
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A certificate as text, in lines of 64 characters (RFC 7468).
fn pem(certificate: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(certificate);
    let lines: String = encoded
        .as_bytes()
        .chunks(64)
        .fold(String::new(), |lines, line| lines + &String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

/// What fails here fails at the client, which says so.
async fn hand_on(acceptor: &TlsAcceptor, connection: TcpStream, plain: Option<SocketAddr>) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut client = acceptor.accept(connection).await.ok()?;
    let mut server = TcpStream::connect(plain?).await.ok()?;
    server.set_nodelay(true).ok()?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}
