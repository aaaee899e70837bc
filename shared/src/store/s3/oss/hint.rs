//! What OSS's errors mean, and what a person has to set so that they do not come again.
//!
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/error-codes>

use super::super::super::{StoreError, StoreErrorKind};

/// What went wrong, by a code or a message that only OSS answers.
pub(in super::super) fn kind(code: &str, message: &str) -> Option<StoreErrorKind> {
    Some(match code {
        "FileAlreadyExists" => StoreErrorKind::PreconditionFailed,
        "FileImmutable" => StoreErrorKind::Locked,
        "SecurityTokenExpired" => StoreErrorKind::ExpiredCredentials,
        // These come as 403 too, and no permission would mend them.
        "InvalidAccessKeyId" if message.contains("expired") => StoreErrorKind::ExpiredCredentials,
        "AccessDenied" if is_other_endpoint(message) => StoreErrorKind::Invalid,
        "SecondLevelDomainForbidden"
        | "PublicEndpointForbidden"
        | "InvalidSecurityToken"
        | "UserDisable"
        | "InvalidArgument"
        | "MissingArgument" => StoreErrorKind::Invalid,
        "QpsLimitExceeded"
        | "TotalQpsLimitExceeded"
        | "UploadTrafficRateLimitExceeded"
        | "DownloadTrafficRateLimitExceeded" => StoreErrorKind::Throttled,
        "OperationNotSupported" => StoreErrorKind::Unsupported,
        _ => return None,
    })
}

fn is_other_endpoint(message: &str) -> bool {
    message.contains("specified endpoint")
}

/// What to do about an error that OSS answered with this code and message. `speaks_oss` says whether the
/// store was configured to be OSS.
pub(in super::super) fn hint(speaks_oss: bool, code: &str, message: &str) -> Option<&'static str> {
    Some(match code {
        "SecondLevelDomainForbidden" => {
            "OSS wants the bucket in the host's name: remove STORE_PATH_STYLE and set STORE_DIALECT=oss"
        }
        "PublicEndpointForbidden" => {
            "OSS gives no data at its public endpoint to this account: set AWS_ENDPOINT_URL_S3 to \
             https://s3.oss-{region}-internal.aliyuncs.com, as it is by default, or to a domain of your own"
        }
        "AccessDenied" if is_other_endpoint(message) => {
            "the bucket is in another region: set AWS_REGION and AWS_ENDPOINT_URL_S3 to those of the bucket"
        }
        "InvalidArgument" | "NotImplemented"
            if !speaks_oss && (code == "NotImplemented" || message.contains("aws-chunked")) =>
        {
            "if this store is OSS, set STORE_DIALECT=oss"
        }
        "InvalidSecurityToken" => {
            "the token belongs to other keys than those that the request is signed with"
        }
        "InvalidAccessKeyId" if speaks_oss => {
            "temporary keys read so too where their token is missing: give the function a role and set no keys \
             of your own"
        }
        "UserDisable" => "the account is disabled or in arrears: settle its bill",
        "NoSuchBucket" if speaks_oss => "OSS says so also of a bucket in another region than the endpoint's",
        "AccessDenied" if speaks_oss => "the RAM policy of the function's role has to allow it",
        _ => return None,
    })
}

/// `error` in the words of RAM instead of IAM.
pub(in super::super) fn in_words_of_ram(mut error: StoreError) -> StoreError {
    error.action = match error.action {
        "s3:GetObject" => "oss:GetObject",
        "s3:GetObjectVersion" => "oss:GetObjectVersion",
        "s3:DeleteObject" => "oss:DeleteObject",
        "s3:DeleteObjectVersion" => "oss:DeleteObjectVersion",
        "s3:GetObjectTagging" => "oss:GetObjectTagging",
        "s3:GetObjectVersionTagging" => "oss:GetObjectVersionTagging",
        "s3:PutObjectTagging" => "oss:PutObjectTagging",
        "s3:PutObjectVersionTagging" => "oss:PutObjectVersionTagging",
        "s3:ListBucket" => "oss:ListObjects",
        "s3:ListBucketVersions" => "oss:ListObjectVersions",
        "s3:ListBucketMultipartUploads" => "oss:ListMultipartUploads",
        "s3:AbortMultipartUpload" => "oss:AbortMultipartUpload",
        "s3:PutObject" => "oss:PutObject",
        other => other,
    };
    if let Some(rest) = error.resource.strip_prefix("arn:aws:s3:::") {
        error.resource = format!("acs:oss:*:*:{rest}");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_to_set() {
        let endpoint =
            "The bucket you are attempting to access must be addressed using the specified endpoint.";
        for (code, message, part) in [
            ("SecondLevelDomainForbidden", "", "remove STORE_PATH_STYLE"),
            ("PublicEndpointForbidden", "", "AWS_ENDPOINT_URL_S3"),
            ("AccessDenied", endpoint, "AWS_REGION"),
            ("UserDisable", "", "bill"),
        ] {
            assert!(hint(true, code, message).is_some_and(|hint| hint.contains(part)), "{code}");
        }
        let chunked = "aws-chunked encoding is not supported with the specified x-amz-content-sha256 value.";
        assert!(
            hint(false, "InvalidArgument", chunked).is_some_and(|hint| hint.contains("STORE_DIALECT=oss"))
        );
        assert_eq!(hint(false, "InvalidArgument", "something else"), None);
        assert_eq!(hint(false, "NoSuchBucket", ""), None);
    }

    #[test]
    fn permissions_are_named_as_ram_names_them() {
        let error = StoreError::new(StoreErrorKind::AccessDenied, "s3:ListBucket", "arn:aws:s3:::files", "");
        assert_eq!(
            in_words_of_ram(error).to_string(),
            "access denied: the function's role needs oss:ListObjects on acs:oss:*:*:files"
        );
    }
}
