"""S3: settings of buckets, replication, and what is not offered of a bucket's or an object's parts."""

from support import ACCOUNT, eventually, refused
from test_s3 import S3, body, bucket, empty


def test_settings():
    b = bucket("settings")
    for code, call in [
        ("NoSuchTagSet", S3.get_bucket_tagging), ("NoSuchLifecycleConfiguration", S3.get_bucket_lifecycle_configuration),
        ("ServerSideEncryptionConfigurationNotFoundError", S3.get_bucket_encryption), ("NoSuchBucketPolicy", S3.get_bucket_policy),
        ("NoSuchPublicAccessBlockConfiguration", S3.get_public_access_block), ("NoSuchCORSConfiguration", S3.get_bucket_cors),
        ("OwnershipControlsNotFoundError", S3.get_bucket_ownership_controls), ("NoSuchWebsiteConfiguration", S3.get_bucket_website),
        ("ReplicationConfigurationNotFoundError", S3.get_bucket_replication), ("ObjectLockConfigurationNotFoundError", S3.get_object_lock_configuration),
    ]:
        refused(code, call, Bucket=b)
    assert S3.get_bucket_request_payment(Bucket=b)["Payer"] == "BucketOwner"
    assert S3.get_bucket_acl(Bucket=b)["Grants"][0]["Permission"] == "FULL_CONTROL"
    for call in [S3.get_bucket_accelerate_configuration, S3.get_bucket_logging, S3.get_bucket_notification_configuration]:
        call(Bucket=b)
    assert S3.list_bucket_inventory_configurations(Bucket=b)["IsTruncated"] is False
    tags = [{"Key": "Project", "Value": "x"}, {"Key": "Env", "Value": "ä & <b>"}]
    S3.put_bucket_tagging(Bucket=b, Tagging={"TagSet": tags})
    assert S3.get_bucket_tagging(Bucket=b)["TagSet"] == tags
    S3.delete_bucket_tagging(Bucket=b)
    refused("NoSuchTagSet", S3.get_bucket_tagging, Bucket=b)
    block = dict.fromkeys(["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"], True)
    S3.put_public_access_block(Bucket=b, PublicAccessBlockConfiguration=block)
    assert S3.get_public_access_block(Bucket=b)["PublicAccessBlockConfiguration"] == block
    S3.delete_public_access_block(Bucket=b)
    refused("NoSuchPublicAccessBlockConfiguration", S3.get_public_access_block, Bucket=b)
    S3.put_bucket_ownership_controls(Bucket=b, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]})
    assert S3.get_bucket_ownership_controls(Bucket=b)["OwnershipControls"]["Rules"][0]["ObjectOwnership"] == "BucketOwnerEnforced"
    S3.delete_bucket_ownership_controls(Bucket=b)
    refused("OwnershipControlsNotFoundError", S3.get_bucket_ownership_controls, Bucket=b)
    rules = [{"Filter": {"Prefix": ""}, "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 7}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}]
    S3.put_bucket_lifecycle_configuration(Bucket=b, LifecycleConfiguration={"Rules": rules})
    kept = S3.get_bucket_lifecycle_configuration(Bucket=b)["Rules"]
    assert kept == [{"ID": "rule-1", **rules[0]}], kept
    # As it was called before rules had filters.
    assert [rule["ID"] for rule in S3.get_bucket_lifecycle(Bucket=b)["Rules"]] == ["rule-1"]
    S3.put_bucket_lifecycle(Bucket=b, LifecycleConfiguration={"Rules": [{"ID": "old", "Prefix": "tmp/", "Status": "Enabled", "Expiration": {"Days": 3}}]})
    assert S3.get_bucket_lifecycle_configuration(Bucket=b)["Rules"][0]["ID"] == "old"
    bad = [{**rules[0], "Status": "On"}]
    refused("MalformedXML", S3.put_bucket_lifecycle_configuration, Bucket=b, LifecycleConfiguration={"Rules": bad})
    S3.delete_bucket_lifecycle(Bucket=b)
    algorithm = lambda name: {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": name}}]}
    S3.put_bucket_encryption(Bucket=b, ServerSideEncryptionConfiguration=algorithm("AES256"))
    rule = S3.get_bucket_encryption(Bucket=b)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert S3.put_object(Bucket=b, Key="k", Body=b"secret")["ServerSideEncryption"] == "AES256"
    S3.delete_bucket_encryption(Bucket=b)
    assert "ServerSideEncryption" not in S3.put_object(Bucket=b, Key="l", Body=b"open")
    refused("NotImplemented", S3.put_bucket_encryption, Bucket=b, ServerSideEncryptionConfiguration=algorithm("aws:kms"))
    refused("NotImplemented", S3.put_bucket_policy, Bucket=b, Policy="{}")
    queue = {"QueueConfigurations": [{"QueueArn": "arn:aws:sqs:us-east-1:1:q", "Events": ["s3:ObjectCreated:*"]}]}
    refused("NotImplemented", S3.put_bucket_notification_configuration, Bucket=b, NotificationConfiguration=queue)
    # What is not there can be taken away, and set to nothing.
    for call in [S3.delete_bucket_policy, S3.delete_bucket_cors, S3.delete_bucket_website]:
        call(Bucket=b)
    for call in [S3.put_bucket_notification_configuration, S3.put_bucket_notification]:
        call(Bucket=b, NotificationConfiguration={})
    assert "QueueConfigurations" not in S3.get_bucket_notification(Bucket=b)
    S3.put_bucket_acl(Bucket=b, ACL="private")
    refused("AccessControlListNotSupported", S3.put_bucket_acl, Bucket=b, ACL="public-read")
    refused("NoSuchBucketPolicy", S3.get_bucket_policy_status, Bucket=b)
    refused("NoSuchConfiguration", S3.get_bucket_inventory_configuration, Bucket=b, Id="none")
    refused("NotImplemented", S3.put_bucket_cors, Bucket=b, CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]})
    empty(b)


def test_what_is_meant_for_a_part_is_not_done_to_the_whole():
    b = bucket("sub-resources")
    S3.put_object(Bucket=b, Key="k", Body=b"kept")
    note = {"Bucket": b, "Key": "k", "AnnotationName": "note"}
    refused("NotImplemented", S3.put_object_annotation, AnnotationPayload=b"spoiled", **note, says="annotation")
    refused("NotImplemented", S3.delete_object_annotation, **note)
    refused("NotImplemented", S3.get_object_annotation, **note)
    assert body(S3.get_object(Bucket=b, Key="k")) == b"kept"
    S3.delete_object(Bucket=b, Key="k")
    refused("NotImplemented", S3.delete_bucket_metadata_configuration, Bucket=b, says="metadataConfiguration")
    S3.head_bucket(Bucket=b)
    empty(b)


def test_replication():
    source, target = bucket("replicated"), bucket("replica")
    rule = {"ID": "all", "Status": "Enabled", "Priority": 1, "Filter": {"Prefix": "in/"}, "DeleteMarkerReplication": {"Status": "Disabled"},
            "Destination": {"Bucket": f"arn:aws:s3:::{target}", "StorageClass": "STANDARD_IA"}}
    rules = {"Role": f"arn:aws:iam::{ACCOUNT}:role/replication", "Rules": [rule]}
    put = lambda: S3.put_bucket_replication(Bucket=source, ReplicationConfiguration=rules)
    refused("InvalidRequest", put, says="Versioning must be")
    S3.put_bucket_versioning(Bucket=source, VersioningConfiguration={"Status": "Enabled"})
    refused("InvalidRequest", put, says="versioning enabled")
    S3.put_bucket_versioning(Bucket=target, VersioningConfiguration={"Status": "Enabled"})
    S3.put_object(Bucket=source, Key="in/before", Body=b"x")
    put()
    assert S3.get_bucket_replication(Bucket=source)["ReplicationConfiguration"] == rules
    S3.put_object(Bucket=source, Key="in/k", Body=b"copy me", Metadata={"m": "1"})
    S3.put_object(Bucket=source, Key="out/k", Body=b"not me")
    status = lambda: S3.head_object(Bucket=source, Key="in/k").get("ReplicationStatus")
    assert status() in ("PENDING", "COMPLETED")
    eventually("the object is replicated", lambda: status() == "COMPLETED")
    got = S3.get_object(Bucket=target, Key="in/k")
    assert body(got) == b"copy me" and got["ReplicationStatus"] == "REPLICA" and got["Metadata"] == {"m": "1"}
    assert got["StorageClass"] == "STANDARD_IA"
    assert [one["Key"] for one in S3.list_objects_v2(Bucket=target)["Contents"]] == ["in/k"]
    assert "ReplicationStatus" not in S3.head_object(Bucket=source, Key="out/k")
    nowhere = {**rules, "Rules": [{**rule, "Destination": {"Bucket": "arn:aws:s3:::not-there"}}]}
    refused("InvalidRequest", S3.put_bucket_replication, Bucket=source, ReplicationConfiguration=nowhere, says="must exist")
    S3.delete_bucket_replication(Bucket=source)
    empty(source)
    empty(target)
