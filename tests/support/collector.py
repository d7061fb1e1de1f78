"""A collector of traces: takes OTLP over HTTP, and keeps what it was sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from typing_extensions import override

HOST = "127.0.0.1"


@dataclass
class Collector:
    """What any OTLP collector would have been sent."""

    url: str
    #: Service, instance and span.
    spans: list[tuple[str, str, Span]] = field(default_factory=list)
    #: What each request said of its resource, and its headers by their names in lower case.
    resources: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        """Keep the spans of one request."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.resources.append(named)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append((named["service.name"], named["service.instance.id"], span))

    def of(self, trace_id: bytes) -> dict[str, list[tuple[str, Span]]]:
        """A trace's spans by name, each with the instance that made it."""
        found: dict[str, list[tuple[str, Span]]] = {}
        for _, instance, span in self.spans:
            if span.trace_id == trace_id:
                found.setdefault(span.name, []).append((instance, span))
        return found


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    collector = Collector(f"http://{HOST}:{server.server_port}")
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        yield collector
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
