"""Settings: one frozen object per process, read once from `WARREN_…` variables.

A missing or weak value is refused at start, by name, in a sentence.
"""

import os
import socket
from typing import Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.errors import WarrenError

#: RFC 7518, section 3.2: an HMAC key must be at least as long as the hash's output.
MIN_SECRET_BYTES = 32


class SettingsError(WarrenError):
    """Raised when a setting is missing or cannot be accepted; the text names it."""


class Settings(BaseSettings):
    """What every process of Warren needs to know."""

    model_config = SettingsConfigDict(
        env_prefix="WARREN_", env_ignore_empty=True, frozen=True, extra="ignore", secrets_dir=None
    )

    amqp_url: SecretStr = Field(
        SecretStr("amqp://guest:guest@127.0.0.1:5672/"),
        description="RabbitMQ: amqp(s)://user:password@host:port/vhost.",
    )
    management_url: SecretStr | None = Field(
        None,
        description="RabbitMQ's management API with user and password; derived from WARREN_AMQP_URL when left out.",
    )
    mongo_url: SecretStr = Field(
        SecretStr("mongodb://127.0.0.1:27017/?replicaSet=warren"),
        description="MongoDB, a replica set (one member is enough in development).",
    )
    mongo_database: str = Field("warren", description="Database name.", min_length=1, max_length=63)
    mongo_driver: Literal["motor", "pymongo"] = Field(
        "motor", description="Which asyncio client of MongoDB to use; both behave alike."
    )
    mongo_timeout_ms: int = Field(5_000, description="Time limit of one store operation, milliseconds.", gt=0)
    mongo_pool_size: int = Field(20, description="Connections to MongoDB per process.", gt=0)
    amqp_heartbeat: int = Field(
        10, description="AMQP heartbeat, seconds; a silent peer is given up after about 3.", gt=0
    )
    publish_timeout: float = Field(
        5.0,
        description="Seconds to wait for the broker's confirm before the outcome counts as unknown.",
        gt=0,
    )
    publish_in_flight: int = Field(
        500, description="Unconfirmed messages per process; more are refused as unavailable.", gt=0
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    dev: bool = Field(
        False, description="Development: turns on /dev/token, the static page and `python -m infra token`."
    )


class EdgeSettings(Settings):
    """What an edge needs beside that."""

    edge_host: str = Field("127.0.0.1", description="Address to listen on.")
    edge_port: int = Field(8001, description="Port to listen on.", ge=0, le=65_535)
    edge_id: str = Field(
        "",
        description="Name of this edge in logs and routing; unique per process start, so it is made up when left out.",
        max_length=100,
        pattern=r"^[A-Za-z0-9_.-]*$",
    )
    jwt_secret: SecretStr | None = Field(
        None,
        description=f"HS256 secret, at least {MIN_SECRET_BYTES} bytes. One of secret, public key, JWKS URL is needed.",
    )
    jwt_public_key: str | None = Field(None, description="PEM public key for RS256 or ES256.")
    jwt_jwks_url: str | None = Field(None, description="Where to fetch RS256/ES256 public keys (a JWK set).")
    jwt_issuer: str | None = Field(None, description="Required `iss` of tokens, when set.")
    jwt_audience: str | None = Field(None, description="Required `aud` of tokens, when set.")
    jwt_verified_claim: str | None = Field(
        None, description="Name of a claim that must be true, e.g. email_verified; `not_verified` otherwise."
    )
    jwt_leeway: int = Field(0, description="Clock difference accepted in `exp` and `nbf`, seconds.", ge=0, le=300)
    allowed_origins: list[str] = Field(
        default_factory=list,
        description='Web origins that may connect, as a JSON list; ["*"] allows all; empty means same origin only.',
    )
    rate_limit: float = Field(50, description="Events a second per user; 0 = off.", ge=0)
    rate_burst: int = Field(100, description="Events a user may send at once; 0 = off.", ge=0)
    max_event_bytes: int = Field(65_536, description="Bytes of one client event.", ge=1_024)
    max_connections: int = Field(10_000, description="Sockets on this edge; more get too_many_connections.", gt=0)
    max_connections_per_user: int = Field(20, description="Sockets of one user on this edge.", gt=0)
    max_in_flight: int = Field(100, description="Unanswered events per socket; more are refused as rate_limited.", gt=0)
    socket_buffer_bytes: int = Field(
        1 << 20, description="Bytes that may wait for a slow socket before it is closed.", ge=65_536
    )
    connect_timeout: float = Field(10, description="Seconds a socket may stay unauthenticated.", gt=0)
    reply_timeout: float = Field(10, description="Seconds until an event without answer gets `timeout`.", gt=0)
    session_grace: float = Field(
        5,
        description="Seconds after a user's last socket closed before the edge reports it: a reload is no absence.",
        ge=0,
    )
    lease_interval: float = Field(5, description="Seconds between an edge's signs of life.", gt=0)
    drain_seconds: float = Field(
        8, description="Seconds that SIGTERM gives sockets to move to another edge, in slices.", ge=0
    )
    ping_interval: int = Field(25, description="Seconds between Engine.IO pings.", gt=0)
    ping_timeout: int = Field(20, description="Seconds to wait for a pong.", gt=0)

    @field_validator("jwt_secret")
    @classmethod
    def long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        """Refuse a secret that could be guessed."""
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes")
        return secret

    @model_validator(mode="after")
    def one_way_to_check_tokens(self) -> Self:
        """Demand exactly one source of keys: two would invite a choice by whoever forges a token."""
        sources = [self.jwt_secret, self.jwt_public_key, self.jwt_jwks_url]
        if sum(source is not None for source in sources) != 1:
            raise ValueError("set exactly one of WARREN_JWT_SECRET, WARREN_JWT_PUBLIC_KEY and WARREN_JWT_JWKS_URL")
        return self

    def name(self) -> str:
        """The edge's id: the configured one, or host, port and process, which never comes twice."""
        host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:40]
        return self.edge_id or f"{host}-{self.edge_port}-{os.getpid()}-{os.urandom(3).hex()}"


class WorkerSettings(Settings):
    """What a worker needs beside that."""

    worker_port: int = Field(0, description="Port of /healthz, /readyz and /metrics; 0 = none.", ge=0, le=65_535)
    worker_host: str = Field("127.0.0.1", description="Address of that port.")
    batch_size: int = Field(500, description="Commands or facts in one batch at most.", gt=0)
    lease_seconds: float = Field(
        20, description="Seconds after an edge's last sign of life until its users are gone.", gt=0
    )
    stop_timeout: float = Field(10, description="Seconds that SIGTERM gives the batch in hand.", gt=0)


S = TypeVar("S", bound=Settings)


def load(settings_type: type[S]) -> S:
    """Read the settings of this process. Raises SettingsError naming every variable that is wrong."""
    try:
        return settings_type()
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(part) for part in error.errors())) from None
    except Exception as error:
        raise SettingsError(f"Settings cannot be read: {error}") from None


def _sentence(error: object) -> str:
    assert isinstance(error, dict)
    name = "_".join(str(part) for part in error["loc"]).upper()
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"WARREN_{name}: {reason}" if name else reason
