"""`python -m infra.deploy.ready`: the image's HEALTHCHECK. It exits with 0 when the container's process is ready.

It imports only the standard library, because it starts every few seconds in every container.
"""

import sys
from http.client import HTTPConnection, HTTPException

#: The port of /readyz of every process in the image.
PORT = 8001
#: Seconds to wait for the answer.
LIMIT = 3.0


def main(port: int = PORT) -> None:
    """Check /readyz. Exits with the reason when the process is not ready."""
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        reason = answer.read().decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        sys.exit(f"no answer on port {port}: {error}")
    if answer.status != 200:
        sys.exit(reason)


if __name__ == "__main__":
    main()
