"""A tenant's lake as a bucket of the S3 endpoint. usage: lake_bucket.py look|delete BUCKET TENANT

look: prints keys, and the rows that pyarrow reads through the endpoint.
delete: with versions kept, deletes an object with the AWS CLI, finds the marker, and brings the object back.
"""

import json
import os
import subprocess
import sys

import boto3
import pyarrow.dataset
from pyarrow import fs

STEP, BUCKET, TENANT = sys.argv[1:]
S3 = boto3.client("s3")


def keys():
    pages = S3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{TENANT}/")
    return [one["Key"] for page in pages for one in page.get("Contents", [])]


def look():
    scheme, address = os.environ["AWS_ENDPOINT_URL"].split("://")
    access = boto3.Session().get_credentials()
    files = fs.S3FileSystem(
        endpoint_override=address, scheme=scheme, region=os.environ["AWS_DEFAULT_REGION"],
        access_key=access.access_key, secret_key=access.secret_key,
    )

    def rows(dataset):
        folder = f"{BUCKET}/{TENANT}/{dataset}"
        return pyarrow.dataset.dataset(folder, filesystem=files, format="parquet", partitioning="hive").count_rows()

    return {"keys": keys(), "raw": rows("raw"), "scored": rows("scored")}


def delete():
    S3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    before = keys()
    key = next(key for key in before if "/raw/" in key)
    subprocess.run([sys.executable, "-m", "awscli", "s3", "rm", f"s3://{BUCKET}/{key}"], check=True, stdout=sys.stderr)
    assert key not in keys()
    marker = S3.list_object_versions(Bucket=BUCKET, Prefix=key)["DeleteMarkers"][0]
    S3.delete_object(Bucket=BUCKET, Key=key, VersionId=marker["VersionId"])
    assert keys() == before
    return {}


print(json.dumps({"look": look, "delete": delete}[STEP]()))
