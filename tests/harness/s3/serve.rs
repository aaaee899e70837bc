//! HTTP around the service.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::server::Shared;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let _ = shared.now();
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream);
    }
}
