//! Which call of the port is meant: what errors name, recordings hold and faults are aimed at.

use std::fmt;

use super::{DeleteItem, StoreError, StoreErrorKind};
use crate::object_ref::ObjectRef;

/// The methods of [`super::ObjectStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`super::ObjectStore::head`]
    Head,
    /// [`super::ObjectStore::get`]
    Get,
    /// [`super::ObjectStore::put`]
    Put,
    /// [`super::ObjectStore::copy`]
    Copy,
    /// [`super::ObjectStore::delete`]
    Delete,
    /// [`super::ObjectStore::delete_batch`]
    DeleteBatch,
    /// [`super::ObjectStore::list`]
    List,
    /// [`super::ObjectStore::list_versions`]
    ListVersions,
    /// [`super::ObjectStore::list_uploads`]
    ListUploads,
    /// [`super::ObjectStore::get_tags`]
    GetTags,
    /// [`super::ObjectStore::put_tags`]
    PutTags,
    /// [`super::ObjectStore::create_upload`]
    CreateUpload,
    /// [`super::ObjectStore::upload_part`]
    UploadPart,
    /// [`super::ObjectStore::complete_upload`]
    CompleteUpload,
    /// [`super::ObjectStore::abort_upload`]
    AbortUpload,
}

impl Operation {
    /// The name in recordings: `head`, `delete-batch`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Get => "get",
            Self::Put => "put",
            Self::Copy => "copy",
            Self::Delete => "delete",
            Self::DeleteBatch => "delete-batch",
            Self::List => "list",
            Self::ListVersions => "list-versions",
            Self::ListUploads => "list-uploads",
            Self::GetTags => "get-tags",
            Self::PutTags => "put-tags",
            Self::CreateUpload => "create-upload",
            Self::UploadPart => "upload-part",
            Self::CompleteUpload => "complete-upload",
            Self::AbortUpload => "abort-upload",
        }
    }

    /// The permission that the call needs, as IAM spells it. Reading, tagging and deleting a named
    /// version have permissions of their own.
    pub fn action(self, of_version: bool) -> &'static str {
        match (self, of_version) {
            (Self::Head | Self::Get, false) => "s3:GetObject",
            (Self::Head | Self::Get, true) => "s3:GetObjectVersion",
            (Self::Delete | Self::DeleteBatch, false) => "s3:DeleteObject",
            (Self::Delete | Self::DeleteBatch, true) => "s3:DeleteObjectVersion",
            (Self::GetTags, false) => "s3:GetObjectTagging",
            (Self::GetTags, true) => "s3:GetObjectVersionTagging",
            (Self::PutTags, false) => "s3:PutObjectTagging",
            (Self::PutTags, true) => "s3:PutObjectVersionTagging",
            (Self::List, _) => "s3:ListBucket",
            (Self::ListVersions, _) => "s3:ListBucketVersions",
            (Self::ListUploads, _) => "s3:ListBucketMultipartUploads",
            (Self::AbortUpload, _) => "s3:AbortMultipartUpload",
            (Self::Put | Self::Copy | Self::CreateUpload | Self::UploadPart | Self::CompleteUpload, _) => {
                "s3:PutObject"
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One call of the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// The method.
    pub operation: Operation,
    /// The bucket.
    pub bucket: String,
    /// The raw key; of a copy the destination's, and `None` for what concerns a whole bucket.
    pub key: Option<String>,
    of_version: bool,
}

impl Call {
    /// A call that concerns one object.
    pub fn on_object(operation: Operation, object: &ObjectRef) -> Self {
        Self {
            operation,
            bucket: object.bucket.clone(),
            key: Some(object.key.clone()),
            of_version: object.version_id.is_some(),
        }
    }

    /// A call that concerns a bucket.
    pub fn on_bucket(operation: Operation, bucket: &str) -> Self {
        Self { operation, bucket: bucket.to_owned(), key: None, of_version: false }
    }

    /// One object's share of a batch delete.
    pub(super) fn on_item(bucket: &str, item: &DeleteItem<'_>) -> Self {
        Self {
            operation: Operation::DeleteBatch,
            bucket: bucket.to_owned(),
            key: Some(item.key.to_owned()),
            of_version: item.version_id.is_some(),
        }
    }

    /// An error of this call.
    pub fn error(&self, kind: StoreErrorKind, detail: impl Into<String>) -> StoreError {
        StoreError::new(kind, self.operation.action(self.of_version), self.arn(), detail)
    }

    /// Whether a version is named.
    pub(super) fn of_version(&self) -> bool {
        self.of_version
    }

    /// What IAM is asked about the call itself: action and ARN.
    pub(super) fn permission(&self) -> (&'static str, String) {
        (self.operation.action(self.of_version), self.arn())
    }

    fn arn(&self) -> String {
        match &self.key {
            Some(key) => format!("arn:aws:s3:::{}/{key}", self.bucket),
            None => format!("arn:aws:s3:::{}", self.bucket),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{} {}/{key}", self.operation, self.bucket),
            None => write!(f, "{} {}", self.operation, self.bucket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_permission_and_the_arn() {
        let object = ObjectRef::new("uploads", "u/a b.png");
        let error = Call::on_object(Operation::Get, &object).error(StoreErrorKind::AccessDenied, "");
        assert_eq!(
            error.to_string(),
            "access denied: the function's role needs s3:GetObject on arn:aws:s3:::uploads/u/a b.png"
        );
        let version = object.at_version(Some("7".to_owned()));
        let error = Call::on_object(Operation::Delete, &version).error(StoreErrorKind::AccessDenied, "");
        assert_eq!(error.action, "s3:DeleteObjectVersion");
        let error = Call::on_bucket(Operation::List, "uploads").error(StoreErrorKind::AccessDenied, "");
        assert_eq!((error.action, error.resource.as_str()), ("s3:ListBucket", "arn:aws:s3:::uploads"));
    }
}
