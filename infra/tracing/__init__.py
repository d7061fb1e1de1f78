"""Tracing: follows messages from socket to socket. Off unless WARREN_TRACES_URL or OpenTelemetry's own variables ask.

`tracer.py` has the places where a message can be followed; by default they do nothing. `otel.py` is what `start` puts
there, and the only file that knows OpenTelemetry.
"""

import logging
import os

from infra.settings import Settings, SettingsError
from infra.tracing.tracer import Tracer

log = logging.getLogger(__name__)

#: Standard variables that name a collector. They count only where WARREN_TRACES_URL is not set.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

#: The tracer of this process.
current = Tracer()


def start(settings: Settings, service: str, instance: str) -> None:
    """Follow messages from now on, if the settings say so. Raises SettingsError when warren[otel] is missing."""
    global current
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    if settings.traces_url is None and not _standard_variables_ask():
        return
    try:
        # A process that traces nothing needs no OpenTelemetry.
        from infra.tracing.otel import OpenTelemetryTracer  # noqa: PLC0415
    except ImportError as error:
        if settings.traces_url is not None:
            raise SettingsError(f"WARREN_TRACES_URL needs warren[otel], which is not installed ({error})") from None
        # A platform may set the standard variables for all that it runs: no reason to refuse to start.
        log.warning("No traces: OpenTelemetry's variables are set, but warren[otel] is not installed (%s).", error)
        return
    current = OpenTelemetryTracer(settings, service, instance)


def _standard_variables_ask() -> bool:
    """Whether OpenTelemetry's variables name a collector for traces, and do not turn the exporter off."""
    return os.environ.get("OTEL_TRACES_EXPORTER") != "none" and any(os.environ.get(name) for name in ENDPOINTS)
