//! Buckets and what S3 keeps of their settings.

use super::{
    AwsObjects,
    failure::{construction, failed, invalid},
    timestamp,
};
use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    types::{
        Bucket as Listed, BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration,
        ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
        ServerSideEncryptionRule, VersioningConfiguration,
    },
};
use kilter_core::ports::objects::{Bucket, BucketChange, Buckets, ObjectError, ObjectErrorKind, Versioning};
use std::collections::BTreeMap;

/// Where a bucket is whose region has no name of its own in S3's answers.
const FIRST_REGION: &str = "us-east-1";

/// S3's rule, as far as it concerns letters and length.
fn allowed(bucket: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    (3..=63).contains(&bucket.len()) && bucket.chars().all(letter)
}

impl AwsObjects {
    pub(super) async fn need_bucket(&self, bucket: &str) -> Result<(), ObjectError> {
        let error = match self.client.head_bucket().bucket(bucket).send().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 404) {
            let message = format!("there is no bucket {bucket}: make it first");
            return Err(ObjectError::new(ObjectErrorKind::NoBucket, "look for a bucket", message));
        }
        Err(failed("look for a bucket", error))
    }

    async fn listed(&self) -> Result<Vec<Listed>, ObjectError> {
        let mut pages = self.client.list_buckets().into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            all.extend(page.map_err(|error| failed("list buckets", error))?.buckets.unwrap_or_default());
        }
        Ok(all)
    }

    async fn described(&self, listed: Listed) -> Result<Bucket, ObjectError> {
        let name = listed.name.unwrap_or_default();
        let fault = "describe a bucket";
        let region = match listed.bucket_region {
            Some(region) => region,
            None => {
                let asked = self.client.get_bucket_location().bucket(&name).send().await;
                let place = asked.map_err(|error| failed(fault, error))?.location_constraint;
                let place = place.map(|place| place.as_str().to_owned()).filter(|place| !place.is_empty());
                place.unwrap_or_else(|| FIRST_REGION.to_owned())
            }
        };
        let asked = self.client.get_bucket_versioning().bucket(&name).send().await;
        let versioning = match asked.map_err(|error| failed(fault, error))?.status {
            Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
            Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
            _ => Versioning::Off,
        };
        let encrypted = match self.client.get_bucket_encryption().bucket(&name).send().await {
            Ok(_) => true,
            Err(error) if error.code() == Some("ServerSideEncryptionConfigurationNotFoundError") => false,
            Err(error) => return Err(failed(fault, error)),
        };
        let (created, settings) = (timestamp(listed.creation_date.as_ref()), BTreeMap::new());
        Ok(Bucket { name, region, created, versioning, encrypted, settings })
    }

    async fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<(), ObjectError> {
        let status = match versioning {
            Versioning::Enabled => BucketVersioningStatus::Enabled,
            Versioning::Suspended => BucketVersioningStatus::Suspended,
            Versioning::Off => {
                return Err(invalid("configure", "S3 can suspend a bucket's versioning, not undo it"));
            }
        };
        let change = VersioningConfiguration::builder().status(status).build();
        let sent = self.client.put_bucket_versioning().bucket(bucket).versioning_configuration(change).send().await;
        sent.map(drop).map_err(|error| failed("configure", error))
    }

    async fn set_encryption(&self, bucket: &str, encrypted: bool) -> Result<(), ObjectError> {
        if !encrypted {
            let sent = self.client.delete_bucket_encryption().bucket(bucket).send().await;
            return sent.map(drop).map_err(|error| failed("configure", error));
        }
        let default = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256).build();
        let default = default.map_err(|error| construction("configure", error))?;
        let rule = ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(default).build();
        let change = ServerSideEncryptionConfiguration::builder().rules(rule).build();
        let change = change.map_err(|error| construction("configure", error))?;
        let sent =
            self.client.put_bucket_encryption().bucket(bucket).server_side_encryption_configuration(change).send();
        sent.await.map(drop).map_err(|error| failed("configure", error))
    }
}

impl Buckets for AwsObjects {
    fn create_bucket(&self, bucket: &str, region: &str) -> Result<bool, ObjectError> {
        if !allowed(bucket) {
            let message = format!("{bucket:?} cannot be a bucket's name: 3 to 63 of a-z, 0-9, . and -");
            return Err(invalid("create a bucket", message));
        }
        self.runtime.block_on(async {
            // In its first region S3 answers the owner of a bucket as if it had just been made.
            match self.need_bucket(bucket).await {
                Ok(()) => return Ok(false),
                Err(error) if error.kind == ObjectErrorKind::NoBucket => {}
                Err(error) => return Err(error),
            }
            let place = (region != FIRST_REGION).then(|| {
                let place = BucketLocationConstraint::from(region);
                CreateBucketConfiguration::builder().location_constraint(place).build()
            });
            let sent = self.client.create_bucket().bucket(bucket).set_create_bucket_configuration(place).send().await;
            match sent {
                Ok(_) => Ok(true),
                Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(false),
                Err(error) => Err(failed("create a bucket", error)),
            }
        })
    }

    fn bucket(&self, bucket: &str) -> Result<Option<Bucket>, ObjectError> {
        self.runtime.block_on(async {
            let listed = self.listed().await?.into_iter().find(|listed| listed.name() == Some(bucket));
            match listed {
                Some(listed) => self.described(listed).await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn buckets(&self) -> Result<Vec<Bucket>, ObjectError> {
        self.runtime.block_on(async {
            let mut all = Vec::new();
            for listed in self.listed().await? {
                all.push(self.described(listed).await?);
            }
            all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            Ok(all)
        })
    }

    fn configure(&self, bucket: &str, change: BucketChange) -> Result<(), ObjectError> {
        match change {
            BucketChange::Versioning(versioning) => self.runtime.block_on(self.set_versioning(bucket, versioning)),
            BucketChange::Encrypted(encrypted) => self.runtime.block_on(self.set_encryption(bucket, encrypted)),
            BucketChange::Setting(name, _) => {
                let message = format!("S3 keeps no settings of others, so not {name}: keep it in a table");
                Err(invalid("configure", message))
            }
        }
    }

    fn delete_bucket(&self, bucket: &str) -> Result<(), ObjectError> {
        let sent = self.runtime.block_on(self.client.delete_bucket().bucket(bucket).send());
        sent.map(drop).map_err(|error| failed("delete a bucket", error))
    }
}
