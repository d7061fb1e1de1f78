"""`python -m infra.deploy.ready`: what the image's HEALTHCHECK asks. Ends with 0 when the process beside it can serve.

Nothing but the standard library: it starts every few seconds in every container.
"""

import sys
from http.client import HTTPConnection, HTTPException

#: Where each process in the image answers /readyz.
PORT = 8001
#: Seconds that it may take to answer.
LIMIT = 3.0


def main(port: int = PORT) -> None:
    """Ask, and end with the reason when there is one not to serve."""
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
