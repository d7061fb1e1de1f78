"""Small programs that tests have supervised."""

import os
import sys
from pathlib import Path

from infra.local.ports import free_ports
from infra.local.supervisor import Process

#: Answers /readyz with the status and the text that it is given; at SIGTERM it writes its name to a file and ends.
SERVER = """
import http.server, os, signal, sys
status, text = int(os.environ["STATUS"]), os.environ["TEXT"].encode()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(status); self.end_headers(); self.wfile.write(text)
    def log_message(self, *_): pass
def stop(*_):
    with open(os.environ["STOPPED"], "a") as file: file.write(os.environ["NAME"] + "\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def child(name: str, program: str, directory: Path, port: int = 0, **environment: str) -> Process:
    """A process that runs a Python program."""
    command = [sys.executable, "-c", program]
    return Process(name, command, {**os.environ, **environment}, port, directory / f"{name}.jsonl")


def server(name: str, directory: Path, status: int = 200, text: str = "ready") -> Process:
    """A process that answers /readyz this way, and adds its name to `stopped` in the directory when it stops."""
    (port,) = free_ports(0)
    told = {"NAME": name, "PORT": str(port), "STATUS": str(status), "TEXT": text, "STOPPED": str(directory / "stopped")}
    return child(name, SERVER, directory, port, **told)
