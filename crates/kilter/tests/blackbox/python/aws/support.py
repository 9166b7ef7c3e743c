"""Clients of the endpoint that the environment names (`kilter env`), and what the tests share."""

import http.server
import os
import threading
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = os.environ["AWS_DEFAULT_REGION"]
ACCOUNT = os.environ["AWS_ACCOUNT_ID"]
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
# What takes milliseconds has certainly failed after this.
PATIENCE = 60


def client(service, **options):
    """A boto3 client without retries: a test sees what was answered first."""
    config = Config(retries={"total_max_attempts": 1}, inject_host_prefix=False).merge(options.pop("config", Config()))
    return boto3.client(service, config=config, **options)


def refused(code, call, *arguments, says="", **parameters):
    """The call must fail with this error code, and say these words; answers the error."""
    try:
        answer = call(*arguments, **parameters)
    except ClientError as error:
        got = error.response["Error"]
        assert got["Code"] == code, f"expected {code}, got {got}"
        assert says in got["Message"], f"expected {says!r} in {got['Message']!r}"
        return error
    raise AssertionError(f"expected {code}, but it was answered: {answer}")


def eventually(what, look):
    """Asks until there is a true answer, and returns it."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


class Web:
    """A web server on loopback: answers what `answers` says for a path, one after the other, then 200; `taken` are the
    requests with path, status, headers and body."""

    def __init__(self):
        self.answers, self.taken = {}, []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                planned = web.answers.get(self.path, [])
                status = planned.pop(0) if planned else 200
                web.taken.append((self.path, status, dict(self.headers), body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
