"""A client of RabbitMQ's management API, for operator commands."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx

from contracts.errors import BrokerUnavailable
from infra.settings import Settings


@dataclass(frozen=True)
class QueueStatus:
    """One queue: numbers of messages and consumers, and rates in messages a second over the last sample."""

    name: str
    ready: int
    unacked: int
    consumers: int
    published: float
    delivered: float
    acked: float


async def queues(settings: Settings) -> list[QueueStatus]:
    """Every queue of the virtual host, by name. Raises BrokerUnavailable with a sentence."""
    (found,) = await fetch(settings, "/api/queues/{vhost}")
    return [_status(queue) for queue in sorted(found, key=lambda queue: str(queue["name"]))]


async def fetch(settings: Settings, *paths: str) -> list[Any]:
    """The JSON at each path; `{vhost}` is replaced by the virtual host. Raises BrokerUnavailable with a sentence."""
    vhost = unquote(urlsplit(settings.amqp_url.get_secret_value()).path[1:]) or "/"
    url = _management_url(settings)
    answers = []
    try:
        async with httpx.AsyncClient(timeout=10, verify=settings.amqp_tls() or True) as client:
            for path in paths:
                answer = await client.get(url + path.format(vhost=quote(vhost, safe="")))
                answers.append(answer.raise_for_status().json())
    except (httpx.HTTPError, ValueError) as error:
        where = url.rsplit("@", 1)[-1]
        raise BrokerUnavailable(
            f"The management API at {where} does not answer ({_reason(error)}). "
            "If it is elsewhere, set WARREN_MANAGEMENT_URL."
        ) from error
    return answers


def _reason(error: Exception) -> str:
    """Why there is no answer, in a few words. httpx itself would print the URL with the password in it."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.response.status_code} {error.response.reason_phrase}"
    return str(error) if isinstance(error, httpx.HTTPError) else "what is there speaks no JSON"


def _management_url(settings: Settings) -> str:
    """WARREN_MANAGEMENT_URL, or RabbitMQ's default port of the API on the broker's host, with the broker's user."""
    if settings.management_url is not None:
        return settings.management_url.get_secret_value().rstrip("/")
    amqp = urlsplit(settings.amqp_url.get_secret_value())
    secure = amqp.scheme == "amqps"
    credentials = f"{amqp.username}:{amqp.password}@" if amqp.username else ""
    port = 15671 if secure else (amqp.port or 5672) + 10_000
    return urlunsplit(("https" if secure else "http", f"{credentials}{amqp.hostname}:{port}", "", "", ""))


def _status(queue: dict[str, Any]) -> QueueStatus:
    rates = queue.get("message_stats", {})

    def rate(name: str) -> float:
        return float(rates.get(f"{name}_details", {}).get("rate", 0))

    return QueueStatus(
        queue["name"],
        queue.get("messages_ready", 0),
        queue.get("messages_unacknowledged", 0),
        queue.get("consumers", 0),
        rate("publish"),
        rate("deliver_get"),
        rate("ack"),
    )
