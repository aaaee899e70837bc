//! What a process writes, line by line.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::locked;

/// Long enough for the executor to look once at what a pipe already holds.
const ONE_LOOK: Duration = Duration::from_millis(1);

/// The lines of one process, from all its streams.
#[derive(Debug)]
pub(crate) struct Logs {
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<mpsc::UnboundedSender<oneshot::Sender<()>>>,
    echo: Option<String>,
}

impl Logs {
    /// No lines yet. With `echo`, each line is repeated on standard error under that name.
    pub(crate) fn new(echo: Option<String>) -> Self {
        Self { lines: Arc::default(), readers: Vec::new(), echo }
    }

    /// Collects what comes out of `stream` until it ends.
    pub(crate) fn follow(&mut self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let (sender, flushes) = mpsc::unbounded_channel();
        self.readers.push(sender);
        tokio::spawn(collect(stream, flushes, self.lines.clone(), self.echo.clone()));
    }

    /// The lines since the last call, with everything that was written before this one.
    pub(crate) async fn take(&self) -> Vec<String> {
        for reader in &self.readers {
            let (done, wait) = oneshot::channel();
            if reader.send(done).is_ok() {
                // A reader that ends instead of answering has read everything.
                let _ = wait.await;
            }
        }
        mem::take(&mut locked(&self.lines))
    }
}

async fn collect(
    mut stream: impl AsyncRead + Unpin,
    mut flushes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    lines: Arc<Mutex<Vec<String>>>,
    echo: Option<String>,
) {
    let mut buffer = BytesMut::new();
    let mut open = true;
    while open {
        tokio::select! {
            biased;
            read = stream.read_buf(&mut buffer) => open = matches!(read, Ok(n) if n > 0),
            flush = flushes.recv() => {
                while open && let Ok(read) = timeout(ONE_LOOK, stream.read_buf(&mut buffer)).await {
                    open = matches!(read, Ok(n) if n > 0);
                }
                keep(&mut buffer, &lines, echo.as_deref(), !open);
                match flush {
                    // Who asked may have gone since.
                    Some(done) => { let _ = done.send(()); }
                    None => open = false,
                }
            }
        }
        keep(&mut buffer, &lines, echo.as_deref(), !open);
    }
}

/// Moves whole lines from `buffer` to `lines`; at the end also what is left.
fn keep(buffer: &mut BytesMut, lines: &Mutex<Vec<String>>, echo: Option<&str>, at_end: bool) {
    while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
        let line = buffer.split_to(end + 1);
        push(&line[..end], lines, echo);
    }
    if at_end && !buffer.is_empty() {
        push(&buffer.split(), lines, echo);
    }
}

fn push(line: &[u8], lines: &Mutex<Vec<String>>, echo: Option<&str>) {
    let line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
    if let Some(name) = echo {
        eprintln!("{name}: {line}");
    }
    locked(lines).push(line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn taking_returns_all_that_was_written_before() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut logs = Logs::new(None);
        logs.follow(reader);
        writer.write_all(b"one\r\ntw").await.unwrap();
        assert_eq!(logs.take().await, ["one"]);
        writer.write_all(b"o\nlast").await.unwrap();
        assert_eq!(logs.take().await, ["two"]);
        drop(writer);
        assert_eq!(logs.take().await, ["last"]);
        assert!(logs.take().await.is_empty());
    }
}
