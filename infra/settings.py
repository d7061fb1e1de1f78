"""Settings: one frozen object per process, read once at start from `WARREN_…` variables.

A missing or weak value is refused with a sentence that names the variable. Secrets may come from files: the folder
`WARREN_SECRETS_DIR` holds one file per variable, as container platforms mount them.
"""

import ipaddress
import os
import socket
import ssl
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.errors import WarrenError

#: An HMAC key must be at least as long as the hash's output (RFC 7518, section 3.2).
MIN_SECRET_BYTES = 32

#: Options of a MongoDB URL that turn certificate checks off.
INSECURE_OPTIONS = ("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames")


class SettingsError(WarrenError):
    """Raised when a setting is missing or invalid; the text names it."""


class Settings(BaseSettings):
    """The settings of every process."""

    model_config = SettingsConfigDict(
        env_prefix="WARREN_", env_ignore_empty=True, frozen=True, extra="ignore", secrets_dir=None
    )

    secrets_dir: Path | None = Field(
        None,
        description="Folder of mounted secrets: a file named like a variable holds its value. The environment wins.",
    )
    amqp_url: SecretStr = Field(
        SecretStr("amqp://guest:guest@127.0.0.1:5672/"),
        description="RabbitMQ: amqp(s)://user:password@host:port/vhost.",
    )
    amqp_ca_file: FilePath | None = Field(
        None, description="CA that signed RabbitMQ's certificate (PEM), for amqps; default: the system's CAs."
    )
    amqp_certificate_file: FilePath | None = Field(
        None, description="Client certificate (PEM), if RabbitMQ requires one."
    )
    amqp_key_file: FilePath | None = Field(
        None, description="Key of the client certificate, if it is not in the same file."
    )
    management_url: SecretStr | None = Field(
        None,
        description="URL of RabbitMQ's management API, with user and password; default: derived from WARREN_AMQP_URL.",
    )
    mongo_url: SecretStr = Field(
        SecretStr("mongodb://127.0.0.1:27017/?replicaSet=warren"),
        description="MongoDB replica set; one member is enough in development.",
    )
    mongo_ca_file: FilePath | None = Field(
        None, description="CA that signed MongoDB's certificate (PEM), for tls=true; default: the system's CAs."
    )
    mongo_certificate_key_file: FilePath | None = Field(
        None, description="Client certificate and key (PEM), if MongoDB requires one."
    )
    mongo_database: str = Field("warren", description="Database name.", min_length=1, max_length=63)
    mongo_driver: Literal["motor", "pymongo"] = Field(
        "pymongo",
        description="MongoDB client: `pymongo` or `motor`. Both behave the same; Motor's support ends on 14 May 2027.",
    )
    mongo_timeout_ms: int = Field(5_000, description="Time limit of one MongoDB operation, milliseconds.", gt=0)
    mongo_pool_size: int = Field(20, description="Connections to MongoDB per process.", gt=0)
    amqp_heartbeat: int = Field(
        10, description="AMQP heartbeat, seconds; a silent connection is closed after about three heartbeats.", gt=0
    )
    publish_timeout: float = Field(
        5.0,
        description="Seconds to wait for the broker's confirm; after that the outcome is unknown.",
        gt=0,
    )
    publish_in_flight: int = Field(
        500,
        description="Limit of unconfirmed AMQP messages per process; above it, publishing fails as `unavailable`.",
        gt=0,
    )
    traces_url: str | None = Field(
        None,
        description="OTLP/HTTP collector for traces; needs `warren[otel]`; default: `OTEL_EXPORTER_OTLP_ENDPOINT`.",
    )
    traces_sample_ratio: float = Field(
        0.01,
        description="Ratio of client events for which an edge starts a trace, 0 to 1; wins over `OTEL_TRACES_SAMPLER`.",
        ge=0,
        le=1,
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level to log: DEBUG, INFO, WARNING or ERROR."
    )
    dev: bool = Field(
        False, description="Development mode: enables /dev/token, the web client and `python -m infra token`."
    )

    def amqp_tls(self) -> ssl.SSLContext | None:
        """The TLS context for the broker, or None without TLS."""
        if urlsplit(self.amqp_url.get_secret_value()).scheme != "amqps":
            return None
        context = _tls_context("WARREN_AMQP_CA_FILE", self.amqp_ca_file)
        if self.amqp_certificate_file is not None:
            _load_client_certificate(
                "WARREN_AMQP_CERTIFICATE_FILE", context, self.amqp_certificate_file, self.amqp_key_file
            )
        return context

    @model_validator(mode="after")
    def amqp_files_are_used(self) -> Self:
        """Refuse files that would be ignored or hold no certificate: the operator expects them to protect the
        connection."""
        files = [name for name in ("amqp_ca_file", "amqp_certificate_file", "amqp_key_file") if getattr(self, name)]
        if self.amqp_tls() is None and files:
            raise ValueError(f"WARREN_{files[0].upper()} needs a WARREN_AMQP_URL that begins with amqps:")
        if self.amqp_key_file is not None and self.amqp_certificate_file is None:
            raise ValueError("WARREN_AMQP_KEY_FILE needs WARREN_AMQP_CERTIFICATE_FILE")
        return self

    @model_validator(mode="after")
    def mongo_files_are_used(self) -> Self:
        """Refuse the same for MongoDB, and a URL that turns certificate checks off."""
        address = urlsplit(self.mongo_url.get_secret_value())
        options = {name.lower(): values[-1].lower() for name, values in parse_qs(address.query).items()}
        if any(options.get(option) == "true" for option in INSECURE_OPTIONS):
            raise ValueError("WARREN_MONGO_URL turns certificate checks off: set WARREN_MONGO_CA_FILE instead")
        if self.mongo_ca_file is None and self.mongo_certificate_key_file is None:
            return self
        if "true" not in (options.get("tls"), options.get("ssl")) and address.scheme != "mongodb+srv":
            raise ValueError(
                "WARREN_MONGO_CA_FILE and WARREN_MONGO_CERTIFICATE_KEY_FILE need tls=true in WARREN_MONGO_URL"
            )
        context = _tls_context("WARREN_MONGO_CA_FILE", self.mongo_ca_file)
        if self.mongo_certificate_key_file is not None:
            _load_client_certificate(
                "WARREN_MONGO_CERTIFICATE_KEY_FILE", context, self.mongo_certificate_key_file, None
            )
        return self


def _tls_context(setting: str, ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ValueError(f"{setting}: the file holds no certificate") from None


def _load_client_certificate(
    setting: str, context: ssl.SSLContext, certificate_file: Path, key_file: Path | None
) -> None:
    try:
        context.load_cert_chain(certificate_file, key_file)
    except ssl.SSLError:
        raise ValueError(f"{setting}: the file holds no certificate with its key") from None


class EdgeSettings(Settings):
    """The settings of an edge."""

    edge_host: str = Field("127.0.0.1", description="Listen address.")
    edge_port: int = Field(8001, description="Listen port.", ge=0, le=65_535)
    edge_id: str = Field(
        "",
        description="Name of this edge in logs and routing; a restart may keep it, two edges may not share it; "
        "default: random.",
        max_length=100,
        pattern=r"^[A-Za-z0-9_.-]*$",
    )
    jwt_secret: SecretStr | None = Field(
        None,
        description=f"HS256 secret, at least {MIN_SECRET_BYTES} bytes. Set one of secret, public key and JWKS URL.",
    )
    jwt_public_key: str | None = Field(None, description="Public key (PEM) for RS256 or ES256.")
    jwt_jwks_url: str | None = Field(None, description="HTTPS URL of a JWK set with public keys for RS256 or ES256.")
    jwt_issuer: str | None = Field(
        None, description="Required `iss` claim, if set. Must be set with a public key or a JWKS URL."
    )
    jwt_audience: str | None = Field(
        None, description="Required `aud` claim, if set. Must be set with a public key or a JWKS URL."
    )
    jwt_verified_claim: str | None = Field(
        None,
        description="Claim that must be `true`, such as `email_verified`; otherwise `not_verified`.",
    )
    jwt_leeway: int = Field(0, description="Accepted clock difference for `exp` and `nbf`, seconds.", ge=0, le=300)
    allowed_origins: list[str] = Field(
        default_factory=list,
        description='Web origins that may connect, as a JSON list; ["*"] allows all, empty only the same origin.',
    )
    dev_exposed: bool = Field(
        False, description="Development mode may listen beyond this machine: anybody there gets a token for any user."
    )
    dev_edges: list[str] = Field(
        default_factory=list, description="Development: edges that the web client may use, as a JSON list of URLs."
    )
    rate_limit: float = Field(50, description="Events per second, per user and edge; 0 = no limit.", ge=0)
    rate_burst: int = Field(100, description="Events in one burst, per user and edge; 0 = no limit.", ge=0)
    start_people_per_hour: int = Field(
        2_000,
        description="People whom a user may name in `start_conversation` per hour and edge, at once or spread; "
        "0 = no limit.",
        ge=0,
    )
    searches_per_minute: int = Field(
        60, description="`find_users` per minute, user and edge, at once or spread; 0 = no limit.", ge=0
    )
    read_items_per_minute: int = Field(
        12_000,
        description="Items that a user may read per minute and edge, at once or spread: the `limit` of each list, "
        "five times that for conversations, and each id in `user_ids`; 0 = no limit.",
        ge=0,
    )
    frame_rate: float = Field(
        100,
        description="WebSocket frames per second and connection, control frames too; above it, closed; 0 = no limit.",
        ge=0,
    )
    frame_burst: int = Field(500, description="Frames in one burst, per connection; 0 = no limit.", ge=0)
    byte_rate: float = Field(
        1 << 19, description="Bytes that a connection may send per second; above it, closed; 0 = no limit.", ge=0
    )
    byte_burst: int = Field(1 << 21, description="Bytes in one burst, per connection; 0 = no limit.", ge=0)
    max_event_bytes: int = Field(65_536, description="Size limit of one client event, bytes.", ge=1_024)
    max_connections: int = Field(
        10_000, description="Limit of authenticated sockets on this edge; above it, `too_many_connections`.", gt=0
    )
    max_connections_per_user: int = Field(20, description="Limit of sockets per user on this edge.", gt=0)
    max_connections_per_address: int = Field(
        0,
        description="Limit of sockets per IPv4 address or IPv6 /64 on this edge, authenticated or not; 0 = no limit.",
        ge=0,
    )
    # More than the 2,048 connections that wait in the kernel at most: after a restart, all of those may be accepted
    # before the first request is read.
    max_pending_connections: int = Field(
        2_500,
        description="Limit of connections before or without an upgrade; above it, the oldest is closed; 0 = no limit.",
        ge=0,
    )
    trusted_proxies: int = Field(
        0,
        description="Number of proxies in front that each append to X-Forwarded-For; 0 = the header is ignored.",
        ge=0,
    )
    max_in_flight: int = Field(
        100, description="Limit of unanswered events per socket; above it, `rate_limited`.", gt=0
    )
    socket_buffer_bytes: int = Field(
        1 << 20,
        description="Output that may wait for a slow socket before the edge closes it, in characters of text.",
        ge=65_536,
    )
    max_request_bytes: int = Field(
        16_384, description="Size limit of one HTTP request with its headers and its body, bytes.", ge=4_096
    )
    request_timeout: float = Field(
        10,
        description="Seconds from the start of a connection, or from the last response, to a complete request.",
        gt=0,
    )
    connect_timeout: float = Field(
        10, description="Seconds from the WebSocket upgrade until a socket must have authenticated.", gt=0
    )
    reply_timeout: float = Field(10, description="Seconds until an event without a reply is acked as `timeout`.", gt=0)
    session_grace: float = Field(
        5,
        description="Seconds that a user stays online after the last socket closed, so that a reload does not show.",
        ge=0,
    )
    lease_interval: float = Field(5, description="Seconds between two renewals of the edge's lease.", gt=0)
    drain_seconds: float = Field(8, description="Seconds over which SIGTERM spreads the closing of sockets.", ge=0)
    ping_interval: int = Field(25, description="Seconds between Engine.IO pings.", gt=0)
    ping_timeout: int = Field(20, description="Seconds to wait for the pong of an Engine.IO ping.", gt=0)

    @field_validator("jwt_secret")
    @classmethod
    def long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        """Refuse a secret that is short enough to be guessed."""
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes")
        return secret

    @model_validator(mode="after")
    def development_stays_on_this_machine(self) -> Self:
        """Refuse to give tokens to a whole network because one switch was forgotten."""
        if self.dev and not self.dev_exposed and not _is_loopback(self.edge_host):
            raise ValueError(
                "with WARREN_DEV, anybody who reaches the edge gets a token for any user: "
                "WARREN_EDGE_HOST must be a loopback address, or WARREN_DEV_EXPOSED=true"
            )
        return self

    @model_validator(mode="after")
    def one_source_of_keys(self) -> Self:
        """Require exactly one source of keys: with two, a forger could choose the weaker one."""
        sources = [self.jwt_secret, self.jwt_public_key, self.jwt_jwks_url]
        if sum(source is not None for source in sources) != 1:
            raise ValueError("set exactly one of WARREN_JWT_SECRET, WARREN_JWT_PUBLIC_KEY and WARREN_JWT_JWKS_URL")
        return self

    @model_validator(mode="after")
    def keys_from_a_trusted_address(self) -> Self:
        """Refuse a key set that anybody on the way could replace, or that is no web address."""
        if self.jwt_jwks_url is None:
            return self
        try:
            address = urlsplit(self.jwt_jwks_url)
            is_local = address.scheme == "http" and address.hostname in ("127.0.0.1", "::1", "localhost")
            is_trusted = bool(address.hostname) and (address.scheme == "https" or (is_local and self.dev))
        except ValueError:
            is_trusted = False
        if not is_trusted:
            raise ValueError(
                "WARREN_JWT_JWKS_URL must begin with https: (with WARREN_DEV, http: of this machine will do)"
            )
        return self

    @model_validator(mode="after")
    def tokens_meant_for_this_service(self) -> Self:
        """Require issuer and audience with public keys: whoever holds the private key signs for other services too."""
        if self.jwt_secret is None:
            missing = [name for name in ("jwt_issuer", "jwt_audience") if getattr(self, name) is None]
            if missing:
                names = " and ".join(f"WARREN_{name.upper()}" for name in missing)
                raise ValueError(f"{names} must be set with WARREN_JWT_PUBLIC_KEY or WARREN_JWT_JWKS_URL")
        return self

    @model_validator(mode="after")
    def answered_before_closed(self) -> Self:
        """Require that a client which sends too many events is answered before it is closed."""
        for events, frames in (("rate_limit", "frame_rate"), ("rate_burst", "frame_burst")):
            if 0 < getattr(self, frames) < 2 * getattr(self, events):
                raise ValueError(f"WARREN_{frames.upper()} must be 0 or at least twice WARREN_{events.upper()}")
        return self

    def make_edge_id(self) -> str:
        """The configured edge id, or a new one of host, port, process id and random digits."""
        host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:40]
        return self.edge_id or f"{host}-{self.edge_port}-{os.getpid()}-{os.urandom(3).hex()}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class WorkerSettings(Settings):
    """The settings of a worker."""

    worker_port: int = Field(0, description="Port of /healthz, /readyz and /metrics; 0 = no port.", ge=0, le=65_535)
    worker_host: str = Field("127.0.0.1", description="Address of that port.")
    batch_size: int = Field(500, description="Limit of commands or facts in one batch.", gt=0)
    worker_priority: int | None = Field(
        None,
        description="Priority among its queue's consumers: RabbitMQ fills the highest first, equal ones take turns. "
        "Default: random for persistence and unread, none for the others.",
        ge=0,
        lt=1 << 31,
    )
    lease_seconds: float = Field(
        20, description="Seconds after an edge's last lease renewal until its sessions are dropped.", gt=0
    )
    declare_topology: bool = Field(
        True, description="Declare exchanges and queues at start; `false`: only check that they exist."
    )
    stop_timeout: float = Field(10, description="Seconds that SIGTERM gives the current batch to finish.", gt=0)


S = TypeVar("S", bound=Settings)


def load(settings_type: type[S], **given: Any) -> S:
    """Read the settings of this process; values `given` win. Raises SettingsError, which names what is wrong."""
    folder = os.environ.get("WARREN_SECRETS_DIR") or None
    if folder is not None and not Path(folder).is_dir():
        raise SettingsError("WARREN_SECRETS_DIR: the folder does not exist")
    try:
        return settings_type(_secrets_dir=folder, **given)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(part) for part in error.errors())) from None
    except Exception as error:
        raise SettingsError(f"Settings cannot be read: {error}") from None


def _sentence(error: object) -> str:
    assert isinstance(error, dict)
    name = "_".join(str(part) for part in error["loc"]).upper()
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"WARREN_{name}: {reason}" if name else reason
