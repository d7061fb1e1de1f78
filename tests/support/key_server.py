"""A server of public keys: a JWK set over HTTP that a test can change."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from typing_extensions import override

from tests.support.forged_tokens import PrivateKey


class KeyServer:
    """A JWK set over HTTP; what it serves can be changed."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        self.url = ""
        #: Status of every answer, its body in place of the keys, and seconds until it is sent.
        self.status = 200
        self.body: bytes | None = None
        self.delay = 0.0

    def add(self, key_id: str, key: PrivateKey, **more: Any) -> None:
        """Serve a public key; `more` are further members of it."""
        algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        public: Any = key.public_key()
        self.keys.append({**algorithm.to_jwk(public, as_dict=True), "kid": key_id, "use": "sig", **more})


@contextmanager
def key_server() -> Iterator[KeyServer]:
    """Serve a JWK set on a port of this machine."""
    served = KeyServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked += 1
            body = json.dumps({"keys": served.keys}).encode() if served.body is None else served.body
            time.sleep(served.delay)
            self.send_response(served.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/keys.json"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
