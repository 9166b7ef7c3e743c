"""Who is let in: signatures, keys, regions, what is not offered."""

import os
import socket
import urllib.error
import urllib.request

from support import ACCOUNT, ENDPOINT, PATIENCE, REGION, client, refused


def test_caller_identity():
    who = client("sts").get_caller_identity()
    assert who["Account"] == ACCOUNT
    assert who["Arn"].endswith(os.environ["AWS_ACCESS_KEY_ID"])


def test_wrong_secret_and_unknown_key():
    key = os.environ["AWS_ACCESS_KEY_ID"]
    wrong = client("sts", aws_access_key_id=key, aws_secret_access_key="wrong")
    refused("SignatureDoesNotMatch", wrong.get_caller_identity)
    stranger = client("sts", aws_access_key_id="AKIASTRANGER", aws_secret_access_key="wrong")
    refused("InvalidClientTokenId", stranger.get_caller_identity)


def test_unsigned():
    try:
        urllib.request.urlopen(ENDPOINT + "/bucket/key")
    except urllib.error.HTTPError as error:
        assert error.code == 403 and b"<Code>AccessDenied</Code>" in error.read()
    else:
        raise AssertionError("an unsigned request was answered")


def test_an_answer_before_the_bodys_end_closes_the_connection():
    # Else a client would send its next request into a connection that is gone.
    host, port = ENDPOINT.split("//")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(b"PUT /bucket/key HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n")
        answer = connection.makefile("rb").read().lower()
    assert answer.startswith(b"http/1.1 403") and b"\r\nconnection: close\r\n" in answer, answer


def test_what_is_not_offered_is_refused():
    refused("UnknownOperationException", client("sqs").list_queues, says="sqs")


def test_another_region():
    other = client("sqs", region_name="eu-west-3" if REGION != "eu-west-3" else "eu-west-2")
    refused("InvalidSignatureException", other.list_queues, says="no site is joined")
