//! Buckets as a whole.

use super::{
    Request,
    document::{Element, NAMESPACE},
    failure::{bad, failure, not_implemented},
    meta,
    object::owner,
    reply::{Reply, iso},
};
use crate::{AwsError, xml::Xml};
use axum::{http::StatusCode, response::Response};

/// The region that has no name in location constraints.
const FIRST_REGION: &str = "us-east-1";

impl Request {
    pub(super) async fn list_buckets(&self) -> Result<Response, AwsError> {
        let prefix = self.call.query("prefix").unwrap_or_default().to_owned();
        let all = self.blocking(|objects| objects.buckets()).await?;
        let mut xml = Xml::new();
        xml.root("ListAllMyBucketsResult", NAMESPACE);
        owner(&mut xml, "Owner", &self.call.account);
        xml.open("Buckets");
        for bucket in all.iter().filter(|bucket| bucket.name.starts_with(&prefix)) {
            xml.open("Bucket").text("Name", &bucket.name).text("CreationDate", &iso(bucket.created));
            xml.text("BucketRegion", &bucket.region).close("Bucket");
        }
        xml.close("Buckets").close("ListAllMyBucketsResult");
        Reply::xml(xml).done()
    }

    pub(super) async fn create_bucket(&self, body: &[u8]) -> Result<Response, AwsError> {
        let (name, region) = (self.route.bucket.clone(), self.call.region.clone());
        check_name(&name)?;
        meta::canned_acl(&self.call)?;
        if self.call.header("x-amz-bucket-object-lock-enabled").is_some_and(|asked| asked.eq_ignore_ascii_case("true"))
        {
            return Err(not_implemented("object lock"));
        }
        let wanted = location(body)?;
        match wanted.as_deref() {
            None | Some("") if region != FIRST_REGION => {
                let message = "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to.";
                return Err(bad("IllegalLocationConstraintException", message));
            }
            // As S3 has it: its first region is asked for by leaving it out.
            Some(FIRST_REGION) => {
                return Err(bad("InvalidLocationConstraint", "The specified location-constraint is not valid")
                    .with("LocationConstraint", FIRST_REGION.into()));
            }
            Some(other) if !other.is_empty() && other != region => {
                let message = format!(
                    "The {other} location constraint is incompatible for the region specific endpoint this request was sent to."
                );
                return Err(bad("IllegalLocationConstraintException", message));
            }
            _ => {}
        }
        let (bucket, at) = (name.clone(), region.clone());
        let made = self.blocking(move |objects| objects.create_bucket(&bucket, &at)).await?;
        // S3's first region says yes to the owner who makes a bucket again, the others do not.
        if !made && region != FIRST_REGION {
            let message = "Your previous request to create the named bucket succeeded and you already own it.";
            let error = failure(StatusCode::CONFLICT, "BucketAlreadyOwnedByYou", message);
            return Err(error.with("BucketName", name.into()));
        }
        Reply::new(StatusCode::OK).with("location", format!("/{name}")).done()
    }

    pub(super) async fn head_bucket(&self) -> Result<Response, AwsError> {
        let bucket = self.bucket().await?;
        let reply = Reply::new(StatusCode::OK).with("x-amz-bucket-region", bucket.region);
        reply.with("x-amz-access-point-alias", "false").done()
    }

    pub(super) async fn delete_bucket(&self) -> Result<Response, AwsError> {
        let name = self.route.bucket.clone();
        let deleted = self.blocking(move |objects| objects.delete_bucket(&name)).await;
        deleted.map_err(|error| match error.code.as_str() {
            "BucketNotEmpty" => error.with("BucketName", self.route.bucket.as_str().into()),
            _ => self.put_error(error),
        })?;
        Reply::new(StatusCode::NO_CONTENT).done()
    }
}

fn location(body: &[u8]) -> Result<Option<String>, AwsError> {
    if body.is_empty() {
        return Ok(None);
    }
    let root = Element::parse(body, "CreateBucketConfiguration")?;
    if root.child("Location").is_some() || root.child("Bucket").is_some() {
        return Err(not_implemented("directory buckets"));
    }
    Ok(root.get("LocationConstraint").map(str::to_owned))
}

/// S3's rules for names of general purpose buckets.
pub(super) fn check_name(name: &str) -> Result<(), AwsError> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = name.as_bytes();
    let form = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|c| plain(*c) || matches!(c, b'.' | b'-'))
        && bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
        && !name.contains("..");
    let reserved = name.parse::<std::net::Ipv4Addr>().is_ok()
        || ["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|prefix| name.starts_with(prefix))
        || ["-s3alias", "--ol-s3", ".mrap", "--x-s3"].iter().any(|suffix| name.ends_with(suffix));
    if form && !reserved {
        return Ok(());
    }
    Err(bad("InvalidBucketName", "The specified bucket is not valid.").with("BucketName", name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["abc", "iot-data-lake-tenant001-us-east-1", "a.b.c", "123"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["ab", "Abc", "a_b", "-ab", "ab-", "a..b", "192.168.1.1", "xn--abc", "abc-s3alias", "../..", "a/b"] {
            assert_eq!(check_name(bad).unwrap_err().code, "InvalidBucketName", "{bad}");
        }
    }
}
