//! Buckets and what is set on them.

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::backend::{Backend, owner};
use super::model::{Bucket as Held, Tags, Versioning};
use super::wire;

impl Backend {
    pub(super) fn make_bucket(&self, input: CreateBucketInput) -> S3Result<CreateBucketOutput> {
        let now = self.shared.now();
        let mut world = self.shared.world();
        let location = Some(format!("/{}", input.bucket));
        if world.buckets.contains_key(&input.bucket) {
            // In the oldest region making one's own bucket again is no error.
            if self.shared.options.region == "us-east-1" {
                return Ok(CreateBucketOutput { location });
            }
            return Err(s3_error!(
                BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it."
            ));
        }
        let mut bucket = Held::new(now);
        if input.object_lock_enabled_for_bucket == Some(true) {
            bucket.object_lock = true;
            bucket.versioning = Versioning::Enabled;
        }
        world.buckets.insert(input.bucket, bucket);
        Ok(CreateBucketOutput { location })
    }

    pub(super) fn drop_bucket(&self, name: &str) -> S3Result<()> {
        let mut world = self.shared.world();
        if !world.bucket(name)?.objects.is_empty() {
            return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
        }
        world.buckets.remove(name);
        Ok(())
    }

    pub(super) fn all_buckets(&self, input: &ListBucketsInput) -> ListBucketsOutput {
        let world = self.shared.world();
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let buckets = world.buckets.iter().filter(|(name, _)| name.starts_with(prefix));
        let buckets = buckets.map(|(name, bucket)| Bucket {
            name: Some(name.clone()),
            creation_date: Some(wire::seconds(bucket.created)),
            ..Bucket::default()
        });
        ListBucketsOutput {
            buckets: Some(buckets.collect()),
            owner: Some(owner(&self.shared.options.account)),
            prefix: input.prefix.clone(),
            ..ListBucketsOutput::default()
        }
    }

    pub(super) fn versioning(&self, bucket: &str) -> S3Result<GetBucketVersioningOutput> {
        let status = match self.shared.world().bucket(bucket)?.versioning {
            Versioning::Off => None,
            Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
        };
        Ok(GetBucketVersioningOutput {
            status: status.map(BucketVersioningStatus::from_static),
            ..GetBucketVersioningOutput::default()
        })
    }

    pub(super) fn change_versioning(&self, input: &PutBucketVersioningInput) -> S3Result<()> {
        let status = input.versioning_configuration.status.as_ref().map(BucketVersioningStatus::as_str);
        let versioning = match status {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => {
                return Err(s3_error!(
                    IllegalVersioningConfigurationException,
                    "The Versioning element must be specified"
                ));
            }
        };
        let mut world = self.shared.world();
        let (bucket, _) = world.bucket_mut(&input.bucket)?;
        if bucket.object_lock && versioning == Versioning::Suspended {
            return Err(s3_error!(
                InvalidBucketState,
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
            ));
        }
        bucket.versioning = versioning;
        Ok(())
    }

    pub(super) fn location(&self, bucket: &str) -> S3Result<GetBucketLocationOutput> {
        self.shared.world().bucket(bucket)?;
        let region = Some(&self.shared.options.region).filter(|region| *region != "us-east-1");
        Ok(GetBucketLocationOutput {
            location_constraint: region.cloned().map(BucketLocationConstraint::from),
        })
    }

    pub(super) fn policy(&self, bucket: &str) -> S3Result<GetBucketPolicyOutput> {
        let policy = self.shared.world().bucket(bucket)?.policy.clone();
        let policy =
            policy.ok_or_else(|| s3_error!(NoSuchBucketPolicy, "The bucket policy does not exist"))?;
        Ok(GetBucketPolicyOutput { policy: Some(policy) })
    }

    pub(super) fn change_policy(&self, bucket: &str, policy: Option<String>) -> S3Result<()> {
        let mut world = self.shared.world();
        let (bucket, _) = world.bucket_mut(bucket)?;
        bucket.policy = policy;
        Ok(())
    }

    pub(super) fn bucket_tags(&self, bucket: &str) -> S3Result<GetBucketTaggingOutput> {
        let tags = self.shared.world().bucket(bucket)?.tags.clone();
        let tags = tags.ok_or_else(|| s3_error!(NoSuchTagSet, "The TagSet does not exist"))?;
        Ok(GetBucketTaggingOutput { tag_set: wire::tag_set(&tags) })
    }

    pub(super) fn change_bucket_tags(&self, bucket: &str, tags: Option<Tags>) -> S3Result<()> {
        let mut world = self.shared.world();
        let (bucket, _) = world.bucket_mut(bucket)?;
        bucket.tags = tags;
        Ok(())
    }
}
