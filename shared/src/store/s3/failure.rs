//! From the SDK's errors to the port's.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::super::{Call, Operation, StoreError, StoreErrorKind};
use super::config::Dialect;
use super::oss::hint;
use super::outgoing::Unreadable;

/// The error of `call` that the SDK gave up with.
pub(super) fn failure<E>(dialect: Dialect, call: &Call, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let (kind, detail) = match &error {
        SdkError::TimeoutError(_) => (StoreErrorKind::Timeout, String::new()),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (StoreErrorKind::Timeout, chain(&error))
        }
        // Nobody could be reached, or the connection ended before an answer came, so that what was asked may have been done.
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.as_other().is_some() => {
            (StoreErrorKind::Unavailable, chain(&error))
        }
        SdkError::DispatchFailure(_) if Unreadable::is_behind(&error) => {
            (StoreErrorKind::Unavailable, chain(&error))
        }
        // There are no credentials to begin with, or what was asked makes no request; the chain says which.
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            (StoreErrorKind::Invalid, chain(&error))
        }
        SdkError::ResponseError(context) => match of_status(call, context.raw().status().as_u16()) {
            // A head that says success and a body that cannot be understood: it broke off.
            None => (StoreErrorKind::Unavailable, chain(&error)),
            Some(kind) => (kind, chain(&error)),
        },
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let (code, message) = (context.err().code(), context.err().message());
            (classify(call, status, code, message), describe(dialect, call, status, code, message))
        }
        _ => (StoreErrorKind::Unavailable, chain(&error)),
    };
    in_words_of(dialect, call.error(kind, detail).caused_by(error))
}

fn in_words_of(dialect: Dialect, error: StoreError) -> StoreError {
    match dialect {
        Dialect::S3 => error,
        Dialect::Oss => hint::in_words_of_ram(error),
    }
}

/// The error of one object of a batch delete, of which only code and message are told.
pub(super) fn item_failure(
    dialect: Dialect,
    call: &Call,
    code: Option<&str>,
    message: Option<&str>,
) -> StoreError {
    let kind = match (code, message) {
        (Some(code), message) => of_code(code, message),
        (None, _) => None,
    };
    // An unknown code is most likely passing: 200 was said, so the request itself was in order.
    in_words_of(dialect, call.error(kind.unwrap_or(StoreErrorKind::Unavailable), join(code, message)))
}

/// What went wrong, by the answer's code, or else its status.
fn classify(call: &Call, status: u16, code: Option<&str>, message: Option<&str>) -> StoreErrorKind {
    code.and_then(|code| of_code(code, message))
        .or_else(|| of_status(call, status))
        // A 200 with an error in its body.
        .unwrap_or(StoreErrorKind::Unavailable)
}

fn of_code(code: &str, message: Option<&str>) -> Option<StoreErrorKind> {
    if let Some(kind) = hint::kind(code, message.unwrap_or_default()) {
        return Some(kind);
    }
    Some(match code {
        "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" | "NotFound" => StoreErrorKind::NotFound,
        "NoSuchBucket" => StoreErrorKind::NoSuchBucket,
        "PreconditionFailed" => StoreErrorKind::PreconditionFailed,
        "ConditionalRequestConflict" | "OperationAborted" => StoreErrorKind::Conflict,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
            let message = message.unwrap_or_default().to_ascii_lowercase();
            let locked = ["object lock", "legal hold", "retention", "worm"];
            if locked.iter().any(|word| message.contains(word)) {
                StoreErrorKind::Locked
            } else {
                StoreErrorKind::AccessDenied
            }
        }
        // MinIO's words for a lock.
        "InvalidRequest" if message.unwrap_or_default().contains("WORM") => StoreErrorKind::Locked,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "RequestThrottled" => StoreErrorKind::Throttled,
        "InternalError" | "InternalServerError" | "ServiceUnavailable" | "IncompleteBody" | "BadDigest" => {
            StoreErrorKind::Unavailable
        }
        "RequestTimeout" | "RequestTimeoutException" => StoreErrorKind::Timeout,
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired" => {
            StoreErrorKind::ExpiredCredentials
        }
        "NotImplemented" => StoreErrorKind::Unsupported,
        // These come as 403 and are no missing permission.
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed"
        | "InvalidObjectState"
        | "InvalidToken" => StoreErrorKind::Invalid,
        // What another try does not mend, also where it is said of one object in a 200.
        "InvalidRequest" | "InvalidArgument" | "MalformedXML" | "KeyTooLongError" => StoreErrorKind::Invalid,
        _ => return None,
    })
}

/// `None` for a success.
fn of_status(call: &Call, status: u16) -> Option<StoreErrorKind> {
    Some(match status {
        200..=299 => return None,
        // The named version is a delete marker.
        405 if matches!(call.operation, Operation::Head | Operation::Get | Operation::GetTags) => {
            StoreErrorKind::NotFound
        }
        403 => StoreErrorKind::AccessDenied,
        404 => StoreErrorKind::NotFound,
        408 => StoreErrorKind::Timeout,
        409 => StoreErrorKind::Conflict,
        412 => StoreErrorKind::PreconditionFailed,
        429 => StoreErrorKind::Throttled,
        405 | 501 => StoreErrorKind::Unsupported,
        307 | 500..=599 => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Invalid,
    })
}

/// Whether the store refused a request and did not say why. S3 says 403 where a permission is missing, OSS
/// also where a token has expired.
pub(super) fn is_unexplained(dialect: Dialect, error: &StoreError) -> bool {
    let malformed = error.kind == StoreErrorKind::Invalid && error.detail == status_only(400);
    malformed || (dialect == Dialect::Oss && error.detail == status_only(403))
}

fn status_only(status: u16) -> String {
    format!("HTTP {status}")
}

/// Code and message, and what a person would not guess from them.
fn describe(dialect: Dialect, call: &Call, status: u16, code: Option<&str>, message: Option<&str>) -> String {
    let told = if code.is_none() && message.is_none() { status_only(status) } else { join(code, message) };
    let of_oss = dialect == Dialect::Oss;
    if let Some(hint) = code.and_then(|code| hint::hint(of_oss, code, message.unwrap_or_default())) {
        return format!("{told}; {hint}");
    }
    if of_oss {
        return told;
    }
    let hint = match (status, call.operation) {
        (403, Operation::Head | Operation::Get) => {
            "; a missing object reads so too where the role lacks s3:ListBucket on the bucket"
        }
        (403, Operation::Put | Operation::CreateUpload) => "; with tags also s3:PutObjectTagging",
        (403, Operation::Copy) => {
            "; also s3:GetObject and s3:GetObjectTagging on the source, and s3:PutObjectTagging"
        }
        (403, Operation::Delete | Operation::DeleteBatch) => "; with a condition also s3:GetObject",
        (301, _) => "; the bucket is in another region than AWS_REGION says",
        _ => "",
    };
    told + hint
}

fn join(code: Option<&str>, message: Option<&str>) -> String {
    match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {}", message.trim_end_matches('.')),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => String::new(),
    }
}

/// What the SDK's error says with its causes, since its own sentence is only "dispatch failure".
fn chain(error: &dyn Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        // Some list what they tried, a line each.
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        // Wrappers repeat what they wrap.
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    parts.join(": ")
}

/// What a body broke off with.
pub(super) fn body_failure(call: &Call, error: impl Error + Send + Sync + 'static) -> StoreError {
    let detail = chain(&error);
    let text = format!("{error}: {detail}").to_ascii_lowercase();
    let stalled = ["stalled", "throughput", "timed out", "timeout"].iter().any(|word| text.contains(word));
    let kind = if stalled { StoreErrorKind::Timeout } else { StoreErrorKind::Truncated };
    call.error(kind, detail).caused_by(error)
}
