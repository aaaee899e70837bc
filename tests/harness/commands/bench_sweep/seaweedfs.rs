//! SeaweedFS, a server that is not ours, started for one run.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::contract::Endpoint;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "bench";
const SECRET: &str = "bench-secret";

/// A running SeaweedFS: master, volume server, filer and S3 gateway in one process, in a temporary folder.
pub(super) struct SeaweedFs {
    port: u16,
    _process: Child,
    _folder: TempDir,
}

impl SeaweedFs {
    /// Starts it and waits until its S3 gateway can be reached.
    pub(super) async fn start(weed: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        // It runs in a folder of its own.
        let weed = &weed.canonicalize().map_err(|error| format!("{}: {error}", weed.display()))?;
        let folder = TempDir::with_prefix("bench-sweep-")?;
        let data = folder.path().join("data");
        let (config, log) = (folder.path().join("s3.json"), folder.path().join("weed.log"));
        fs::create_dir(&data)?;
        let actions = ["Admin", "Read", "List", "Tagging", "Write"];
        let credentials = json!([{"accessKey": KEY, "secretKey": SECRET}]);
        let identities = json!([{"name": KEY, "credentials": credentials, "actions": actions}]);
        fs::write(&config, json!({"identities": identities}).to_string())?;
        let log = fs::File::create(log)?;
        // Every port has a fixed default, where something else may listen.
        let ports = free_ports::<8>()?;
        let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, port, s3_grpc] = ports;
        let process = Command::new(weed)
            .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
            // Each bucket takes several volumes at once: files that grow as they are written.
            .args(["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=200"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-master.port={master}"))
            .arg(format!("-master.port.grpc={master_grpc}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-volume.port.grpc={volume_grpc}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-filer.port.grpc={filer_grpc}"))
            .arg(format!("-s3.port={port}"))
            .arg(format!("-s3.port.grpc={s3_grpc}"))
            .arg(format!("-s3.config={}", config.display()))
            .arg(format!("-dir={}", data.display()))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", weed.display()))?;
        let mut server = Self { port, _process: process, _folder: folder };
        let started = Instant::now();
        // The volume server has to be known to the master as well, a moment after the gateway listens.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            if let Some(status) = server._process.try_wait()? {
                return Err(format!("SeaweedFS ended with {status}").into());
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("SeaweedFS did not listen within {} s", PATIENCE.as_secs()).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(server)
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint {
            url: format!("http://127.0.0.1:{}", self.port),
            access_key_id: KEY.to_owned(),
            secret_access_key: SECRET.to_owned(),
        }
    }
}

/// Ports on which nothing listened a moment ago.
fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    // All are held until the last is known, so that none is given twice.
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
