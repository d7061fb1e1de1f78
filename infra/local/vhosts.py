"""Private virtual hosts, so that test runs on one RabbitMQ do not meet."""

from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from infra.local.services import Services


def create_vhost(services: Services, name: str) -> str:
    """Make a virtual host that the services' own user may use, and return its AMQP URL; one that exists is kept."""
    user = quote(services.credentials[0], safe="")
    with _management(services) as client:
        client.put(f"/api/vhosts/{quote(name, safe='')}").raise_for_status()
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        client.put(f"/api/permissions/{quote(name, safe='')}/{user}", json=everything).raise_for_status()
    return urlunsplit(urlsplit(services.amqp_url)._replace(path="/" + quote(name, safe="")))


def delete_vhost(services: Services, name: str) -> None:
    """Delete a virtual host with all it holds, closing its connections; one that is gone is no error."""
    with _management(services) as client:
        answer = client.delete(f"/api/vhosts/{quote(name, safe='')}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()


def _management(services: Services) -> httpx.Client:
    return httpx.Client(base_url=services.management_url, auth=services.credentials, timeout=30, trust_env=False)
