//! `local-cloud ticket`: what an app's backend does, from a terminal.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use harness::presign::{Signer, Upload};
use harness::ticket::Issuer;
use jiff::Timestamp;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::clock::{Clock, SystemClock};
use shared::env::Environment;
use shared::media_type::{MediaType, sniff};
use shared::object_ref::ObjectRef;
use shared::ticket::{Facts, KeySet, authenticate};

use super::CommandResult;

/// Where `make dev` leaves the key of its cloud.
pub(super) const DEV_KEY: &str = "target/dev/ticket-key.jwk";

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Makes a private key, and prints it as a JWK.
    Key {
        /// The key's name.
        #[arg(long, default_value = "1")]
        kid: String,
        /// A shared secret (HS256) instead of an Ed25519 key.
        #[arg(long)]
        hs256: bool,
    },
    /// Prints what TICKET_KEYS has to say for private keys.
    Jwks {
        /// Files with private keys; two live side by side while one is being replaced.
        #[arg(default_value = DEV_KEY)]
        jwk: Vec<PathBuf>,
    },
    /// Prints a ticket.
    Issue(Issue),
    /// Says whether a ticket is genuine, and whether it holds for an upload, as the functions would.
    Verify(Verify),
    /// Prints a command by which curl uploads a file under a ticket.
    Presign(Presign),
}

/// What a ticket promises.
#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    /// The bucket.
    #[arg(long)]
    bucket: String,
    /// The exact key.
    #[arg(long)]
    key: String,
    /// The file with the private key.
    #[arg(long, default_value = DEV_KEY)]
    jwk: PathBuf,
    /// For how long the upload may begin: 15m, 1h.
    #[arg(long, default_value = "15m", value_parser = duration)]
    expires_in: Duration,
    /// From when on: 2026-11-01T12:00:00Z.
    #[arg(long)]
    not_before: Option<Timestamp>,
    /// Bytes, at least.
    #[arg(long)]
    min_size: Option<u64>,
    /// Bytes, at most.
    #[arg(long)]
    max_size: Option<u64>,
    /// image/png, image/*
    #[arg(long)]
    content_type: Option<String>,
    /// The content's MD5, hexadecimal or base64.
    #[arg(long)]
    md5: Option<String>,
    /// The content's SHA-256, hexadecimal or base64.
    #[arg(long)]
    sha256: Option<String>,
    /// Whose upload it is.
    #[arg(long)]
    owner: Option<String>,
    /// When the object may be deleted: 2026-12-01T00:00:00Z.
    #[arg(long)]
    expires_at: Option<Timestamp>,
}

/// What is held against a ticket.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The ticket.
    ticket: String,
    /// A file with a JWKS, or with a key.
    #[arg(long, default_value = DEV_KEY)]
    keys: PathBuf,
    /// The bucket of the upload; with a key, its claims are checked too.
    #[arg(long, requires = "key")]
    bucket: Option<String>,
    /// The key of the upload.
    #[arg(long, requires = "bucket")]
    key: Option<String>,
    /// The file that was or will be uploaded.
    #[arg(long, requires = "key")]
    file: Option<PathBuf>,
    /// When the object was created; now if nothing is said.
    #[arg(long)]
    created_at: Option<Timestamp>,
}

/// An upload under a ticket.
#[derive(Debug, clap::Args)]
pub(crate) struct Presign {
    #[command(flatten)]
    issue: Issue,
    /// The file that will be uploaded.
    #[arg(long, default_value = "FILE")]
    file: String,
    /// A browser's form instead of a PUT; S3 itself then holds it to the sizes.
    #[arg(long)]
    post: bool,
    /// The store, where it is not Amazon's own; AWS_ENDPOINT_URL_S3 if nothing is said.
    #[arg(long)]
    endpoint: Option<String>,
    /// The bucket stands in the host's name, also at an endpoint of one's own.
    #[arg(long)]
    virtual_host: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(span).ok().filter(|span| !span.is_zero()).ok_or("it has to be positive".to_owned())
}

pub(super) async fn run(command: Command) -> CommandResult {
    match command {
        Command::Key { kid, hs256 } => println!("{}", new_key(kid, hs256).private_jwk()),
        Command::Jwks { jwk } => {
            let keys = jwk.iter().map(|file| Ok(issuer(file)?.public_jwk()));
            let keys = keys.collect::<Result<Vec<_>, String>>()?;
            println!("{}", json!({"keys": keys}));
        }
        Command::Issue(issue) => println!("{}", issuer(&issue.jwk)?.issue(&issue.claims(SystemClock.now()))),
        Command::Verify(verify) => return verify.run(),
        Command::Presign(presign) => println!("{}", Box::pin(presign.command()).await?),
    }
    Ok(ExitCode::SUCCESS)
}

fn new_key(kid: String, hs256: bool) -> Issuer {
    if hs256 { Issuer::new_hmac(kid) } else { Issuer::new(kid) }
}

/// Leaves the private key of a cloud where the other commands look for it, readable by this user alone.
pub(super) fn leave_key(issuer: &Issuer) -> std::io::Result<()> {
    let path = Path::new(DEV_KEY);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    writeln!(options.open(path)?, "{}", issuer.private_jwk())
}

fn read(file: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(file).map_err(|error| {
        format!(
            "{} cannot be read ({error}); `ticket key` makes a key, and `make dev` leaves one",
            file.display()
        )
    })?;
    serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", file.display()))
}

fn issuer(file: &Path) -> Result<Issuer, String> {
    Issuer::from_private_jwk(&read(file)?).map_err(|error| format!("{}: {error}", file.display()))
}

impl Issue {
    fn claims(&self, now: Timestamp) -> Value {
        let mut claims = json!({
            "aud": self.bucket,
            "sub": self.key,
            "iat": now.as_second(),
            "exp": (now + self.expires_in).as_second(),
            "jti": format!("{:016x}", fastrand::u64(..)),
        });
        let more = [
            ("nbf", self.not_before.map(|at| json!(at.as_second()))),
            ("min_size", self.min_size.map(Value::from)),
            ("max_size", self.max_size.map(Value::from)),
            ("content_type", self.content_type.as_deref().map(Value::from)),
            ("md5", self.md5.as_deref().map(Value::from)),
            ("sha256", self.sha256.as_deref().map(Value::from)),
            ("owner", self.owner.as_deref().map(Value::from)),
            ("expires_at", self.expires_at.map(|at| json!(at.as_second()))),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                claims[name] = value;
            }
        }
        claims
    }
}

impl Verify {
    fn run(self) -> CommandResult {
        let keys = read(&self.keys)?;
        let keys = if keys.get("keys").is_some() {
            keys
        } else {
            let issuer = Issuer::from_private_jwk(&keys).map(|issuer| issuer.public_jwk());
            json!({"keys": [issuer.unwrap_or(keys)]})
        };
        let keys = KeySet::parse(&keys.to_string())?;
        let claims = match authenticate(self.ticket.trim(), &keys) {
            Ok(claims) => claims,
            Err(reason) => return Err(format!("{}: {}", reason.code, reason.message).into()),
        };
        println!("{}", serde_json::to_string_pretty(&claims)?);
        let (Some(bucket), Some(key)) = (self.bucket, self.key) else { return Ok(ExitCode::SUCCESS) };
        let object = ObjectRef::new(bucket, key);
        let content = self.file.as_ref().map(fs::read).transpose()?;
        let bytes = content.as_deref().unwrap_or_default();
        let mut failures = claims.failures(&Facts {
            object: &object,
            created_at: self.created_at.unwrap_or_else(|| SystemClock.now()),
            size: bytes.len() as u64,
            media_type: sniff(bytes).map(MediaType::essence),
            md5: Some(Md5::digest(bytes).into()),
            sha256: Some(Sha256::digest(bytes).into()),
        });
        if content.is_none() {
            // Without a file only what is said about the place and the time can be checked.
            let of_content = ["ticket-wrong-size", "ticket-wrong-type", "ticket-wrong-digest"];
            failures.retain(|reason| !of_content.contains(&reason.code));
        }
        for reason in &failures {
            eprintln!("{}: {}", reason.code, reason.message);
        }
        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Presign {
    async fn command(self) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let environment = Environment::of_process();
        let variable = |name: &str| environment.get(name).map(str::to_owned);
        let required =
            |name: &str| variable(name).ok_or(format!("{name} is not set; `make dev` prints what to set"));
        let endpoint = self.endpoint.or_else(|| variable("AWS_ENDPOINT_URL_S3"));
        let signer = Signer {
            path_style: endpoint.is_some() && !self.virtual_host,
            endpoint,
            region: variable("AWS_REGION").unwrap_or("us-east-1".to_owned()),
            access_key_id: required("AWS_ACCESS_KEY_ID")?,
            secret_access_key: required("AWS_SECRET_ACCESS_KEY")?,
            session_token: variable("AWS_SESSION_TOKEN"),
        };
        let now = SystemClock.now();
        let upload = Upload {
            object: ObjectRef::new(&self.issue.bucket, &self.issue.key),
            ticket: issuer(&self.issue.jwk)?.issue(&self.issue.claims(now)),
            content_type: self.issue.content_type.clone().filter(|kind| !kind.ends_with('*')),
            min_size: self.issue.min_size.unwrap_or(1),
            max_size: self.issue.max_size.unwrap_or(5 << 30),
            expires_in: self.issue.expires_in,
        };
        Ok(if self.post {
            signer.post(&upload, now).curl_post(&self.file)
        } else {
            signer.put(&upload).await?.curl_put(&self.file)
        })
    }
}
