//! Bodies of requests: in memory, or read from a file while they are sent.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::super::outgoing::{Outgoing, OutgoingFile};

/// What is read at once. The connection takes several of these before it waits.
const READ_BYTES: usize = 16 << 10;

/// The body of a request, as often as it is sent, and by what it is signed.
pub(super) fn body(outgoing: Outgoing) -> (ByteStream, SignedBy) {
    match outgoing {
        Outgoing::Memory(bytes) => (ByteStream::from(bytes), SignedBy(None)),
        Outgoing::File(file) => {
            let signed_by = SignedBy(Some(hex::encode(file.sha256())));
            let body = SdkBody::retryable(move || {
                SdkBody::from_body_1_x(FileBody { file: file.clone(), length: file.length(), at: 0 })
            });
            (ByteStream::new(body), signed_by)
        }
    }
}

/// Has a request signed by the digest of a body that is not in memory. Without it, the SDK would leave such a body
/// out of the signature, and nobody would notice where it arrives as another.
#[derive(Debug, Clone)]
pub(super) struct SignedBy(Option<String>);

impl Intercept for SignedBy {
    fn name(&self) -> &'static str {
        "signed-by"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(digest) = &self.0 {
            config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(digest.clone()));
        }
        Ok(())
    }
}

/// The file of a body cannot be read, or has become shorter. Another invocation writes a file of its own.
#[derive(Debug, thiserror::Error)]
#[error("what waits in a temporary file cannot be read back")]
pub(super) struct Unreadable(#[source] io::Error);

impl Unreadable {
    /// Whether this is why a request failed.
    pub(super) fn is_behind(error: &(dyn Error + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(cause) = next {
            if cause.is::<Self>() {
                return true;
            }
            next = cause.source();
        }
        false
    }
}

/// Reads a file as it is asked for. What was written a moment ago is still in the system's memory, so that reading
/// it does not wait.
struct FileBody {
    file: OutgoingFile,
    length: u64,
    at: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = Unreadable;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unreadable>>> {
        let read = self.file.read(self.at, READ_BYTES);
        Poll::Ready(match read {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => {
                self.at += bytes.len() as u64;
                Some(Ok(Frame::data(bytes)))
            }
            Err(error) => Some(Err(Unreadable(error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length.saturating_sub(self.at))
    }
}
