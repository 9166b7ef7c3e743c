//! A bucket's settings: those that Kilter follows are checked and kept, those that it does not know are refused where
//! somebody sets them and answered as S3 answers for a bucket that never had them.

use super::{
    Request,
    document::{Element, NAMESPACE, malformed},
    failure::{bad, missing, not_implemented},
    lifecycle, meta,
    object::owner_only,
    replication,
    reply::Reply,
    tagging,
};
use crate::{AwsError, xml::Xml};
use axum::{body::Body, http::StatusCode, response::Response};
use kilter_core::ports::objects::*;

impl Request {
    pub(super) async fn get_setting(&self, name: &'static str) -> Result<Response, AwsError> {
        let bucket = self.bucket().await?;
        if let Some(document) = bucket.settings.get(name) {
            return Reply::new(StatusCode::OK)
                .with("content-type", "application/xml")
                .body(Body::from(document.clone()))
                .done();
        }
        let empty = |root: &str| {
            let mut xml = Xml::new();
            xml.root(root, NAMESPACE).close(root);
            Reply::xml(xml).done()
        };
        match name {
            "location" => {
                let mut xml = Xml::new();
                let region = if bucket.region == "us-east-1" { "" } else { &bucket.region };
                xml.raw(&format!("<LocationConstraint xmlns=\"{NAMESPACE}\">{region}</LocationConstraint>"));
                Reply::xml(xml).done()
            }
            "versioning" => {
                let mut xml = Xml::new();
                xml.root("VersioningConfiguration", NAMESPACE);
                match bucket.versioning {
                    Versioning::Off => {}
                    Versioning::Enabled => drop(xml.text("Status", "Enabled")),
                    Versioning::Suspended => drop(xml.text("Status", "Suspended")),
                }
                xml.close("VersioningConfiguration");
                Reply::xml(xml).done()
            }
            "requestPayment" => {
                let mut xml = Xml::new();
                xml.root("RequestPaymentConfiguration", NAMESPACE).text("Payer", "BucketOwner");
                xml.close("RequestPaymentConfiguration");
                Reply::xml(xml).done()
            }
            "inventory" if self.call.query("id").is_some() => {
                Err(missing("NoSuchConfiguration", "The specified configuration does not exist."))
            }
            "inventory" => {
                let mut xml = Xml::new();
                xml.root("ListInventoryConfigurationsResult", NAMESPACE).text("IsTruncated", "false");
                xml.close("ListInventoryConfigurationsResult");
                Reply::xml(xml).done()
            }
            "acl" => Reply::xml(owner_only(&self.call.account)).done(),
            "accelerate" => empty("AccelerateConfiguration"),
            "logging" => empty("BucketLoggingStatus"),
            "notification" => empty("NotificationConfiguration"),
            other => Err(absent(other).with("BucketName", bucket.name.as_str().into())),
        }
    }

    pub(super) async fn put_setting(&self, name: &'static str, body: &[u8]) -> Result<Response, AwsError> {
        let keep = |document: String| vec![BucketChange::Setting(name.to_owned(), Some(document))];
        let changes = match name {
            "versioning" => vec![BucketChange::Versioning(versioning(body)?)],
            "tagging" => keep(tagging::document(&tagging::of_document(body, tagging::BUCKET_TAGS_MAX)?).finish()),
            "lifecycle" => keep(lifecycle::check(body)?.write()),
            "encryption" => [vec![BucketChange::Encrypted(true)], keep(encryption(body)?.write())].concat(),
            "publicAccessBlock" => keep(public_access_block(body)?.write()),
            "ownershipControls" => keep(ownership(body)?.write()),
            "notification" => match Element::parse(body, "NotificationConfiguration")?.children.is_empty() {
                true => Vec::new(),
                false => return Err(not_implemented("event notifications of buckets")),
            },
            "acl" => match self.call.header("x-amz-acl").is_some() && body.is_empty() {
                true => meta::canned_acl(&self.call).map(|()| Vec::new())?,
                false => return Err(meta::no_acls()),
            },
            "replication" => keep(self.replication(body).await?.write()),
            "policy" => return Err(not_implemented("bucket policies; give the access key a policy instead")),
            other => return Err(not_implemented(&format!("setting a bucket's {other}"))),
        };
        self.configure(changes, StatusCode::OK).await
    }

    /// Rules whose destinations are buckets of this site that keep versions, as the source must.
    async fn replication(&self, body: &[u8]) -> Result<Element, AwsError> {
        let (document, destinations) = replication::check(body)?;
        if self.bucket().await?.versioning != Versioning::Enabled {
            let message = "Versioning must be 'Enabled' on the bucket to apply a replication configuration";
            return Err(bad("InvalidRequest", message));
        }
        for destination in destinations {
            if destination == self.route.bucket {
                return Err(bad("InvalidRequest", "Destination bucket cannot be the same as the source bucket."));
            }
            match self.blocking(move |objects| objects.bucket(&destination)).await? {
                None => {
                    return Err(bad(
                        "InvalidRequest",
                        "Destination bucket must exist: this site has no such bucket, and no other site is joined.",
                    ));
                }
                Some(found) if found.versioning != Versioning::Enabled => {
                    return Err(bad("InvalidRequest", "Destination bucket must have versioning enabled."));
                }
                Some(_) => {}
            }
        }
        Ok(document)
    }

    pub(super) async fn delete_setting(&self, name: &'static str) -> Result<Response, AwsError> {
        let gone = BucketChange::Setting(name.to_owned(), None);
        let changes = match name {
            "encryption" => vec![BucketChange::Encrypted(false), gone],
            "cors" | "lifecycle" | "ownershipControls" | "policy" | "publicAccessBlock" | "replication" | "tagging"
            | "website" => vec![gone],
            other => return Err(not_implemented(&format!("deleting a bucket's {other}"))),
        };
        self.configure(changes, StatusCode::NO_CONTENT).await
    }

    async fn configure(&self, changes: Vec<BucketChange>, status: StatusCode) -> Result<Response, AwsError> {
        self.bucket().await?;
        let name = self.route.bucket.clone();
        let all =
            move |objects: &dyn Uploads| changes.into_iter().try_for_each(|change| objects.configure(&name, change));
        self.blocking(all).await.map_err(|error| self.put_error(error))?;
        Reply::new(status).done()
    }
}

/// What S3 says of a setting that a bucket never had.
fn absent(name: &str) -> AwsError {
    let (code, message) = match name {
        "tagging" => ("NoSuchTagSet", "The TagSet does not exist"),
        "lifecycle" => ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
        "encryption" => {
            ("ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found")
        }
        "publicAccessBlock" => {
            ("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")
        }
        "ownershipControls" => ("OwnershipControlsNotFoundError", "The bucket ownership controls were not found"),
        "policy" | "policyStatus" => ("NoSuchBucketPolicy", "The bucket policy does not exist"),
        "cors" => ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
        "replication" => ("ReplicationConfigurationNotFoundError", "The replication configuration was not found"),
        "object-lock" => {
            ("ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket")
        }
        "website" => ("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"),
        other => return not_implemented(other),
    };
    missing(code, message)
}

fn versioning(body: &[u8]) -> Result<Versioning, AwsError> {
    let root = Element::parse(body, "VersioningConfiguration")?;
    if root.get("MfaDelete").is_some_and(|mfa| mfa == "Enabled") {
        return Err(not_implemented("MFA delete"));
    }
    match root.get("Status") {
        Some("Enabled") => Ok(Versioning::Enabled),
        Some("Suspended") => Ok(Versioning::Suspended),
        _ => Err(bad("IllegalVersioningConfigurationException", "The Versioning element must be specified")),
    }
}

fn encryption(body: &[u8]) -> Result<Element, AwsError> {
    let root = Element::parse(body, "ServerSideEncryptionConfiguration")?;
    root.only(&["Rule"])?;
    let [rule] = root.children.as_slice() else { return Err(malformed()) };
    let default = rule.child("ApplyServerSideEncryptionByDefault").ok_or_else(malformed)?;
    match default.get("SSEAlgorithm") {
        Some("AES256") if default.get("KMSMasterKeyID").is_none() => Ok(root),
        Some("AES256") => Err(bad(
            "InvalidArgument",
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
        )),
        Some("aws:kms" | "aws:kms:dsse") => Err(not_implemented("encryption with KMS keys; use AES256")),
        _ => Err(malformed()),
    }
}

fn public_access_block(body: &[u8]) -> Result<Element, AwsError> {
    let root = Element::parse(body, "PublicAccessBlockConfiguration")?;
    let flags = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    root.only(&flags)?;
    let flag = |name: &&str| match root.get(name).unwrap_or("false").to_ascii_lowercase().as_str() {
        text @ ("true" | "false") => {
            Ok(Element { name: (*name).to_owned(), text: text.to_owned(), children: Vec::new() })
        }
        _ => Err(malformed()),
    };
    let children = flags.iter().map(flag).collect::<Result<_, _>>()?;
    Ok(Element { children, ..root })
}

fn ownership(body: &[u8]) -> Result<Element, AwsError> {
    let root = Element::parse(body, "OwnershipControls")?;
    let [rule] = root.children.as_slice() else { return Err(malformed()) };
    match rule.get("ObjectOwnership") {
        // There is one owner and no list of rights: what asks for one is refused.
        Some("BucketOwnerEnforced" | "BucketOwnerPreferred") => Ok(root),
        Some("ObjectWriter") => Err(not_implemented("ownership by who writes an object; the bucket's owner owns it")),
        _ => Err(malformed()),
    }
}
