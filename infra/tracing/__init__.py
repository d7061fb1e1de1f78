"""Distributed tracing, from the sender's socket to the recipients' sockets.

Off unless WARREN_TRACES_URL or OpenTelemetry's standard variables name a collector. `tracer.py` is the interface, which
does nothing by itself. `otel.py` implements it and is the only module that imports OpenTelemetry.
"""

import logging
import os

from infra.settings import Settings, SettingsError
from infra.tracing.tracer import Tracer

log = logging.getLogger(__name__)

#: OpenTelemetry's standard variables that name a collector. Used only when WARREN_TRACES_URL is not set.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

#: The tracer of this process.
current = Tracer()


def start(settings: Settings, service: str, instance: str) -> None:
    """Start tracing when a collector is configured.

    Raises SettingsError when WARREN_TRACES_URL is set and warren[otel] is not installed.
    """
    global current
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    if settings.traces_url is None and not _standard_variables_enable_tracing():
        return
    try:
        # Imported only here: without tracing, OpenTelemetry need not be installed.
        from infra.tracing.otel import OpenTelemetryTracer  # noqa: PLC0415
    except ImportError as error:
        if settings.traces_url is not None:
            raise SettingsError(f"WARREN_TRACES_URL needs warren[otel], which is not installed ({error})") from None
        # A platform may set the standard variables for every process: that must not keep Warren from starting.
        log.warning("No traces: OpenTelemetry's variables are set, but warren[otel] is not installed (%s).", error)
        return
    current = OpenTelemetryTracer(settings, service, instance)


def _standard_variables_enable_tracing() -> bool:
    """Whether OpenTelemetry's variables name a collector and do not disable the exporter of traces."""
    return os.environ.get("OTEL_TRACES_EXPORTER") != "none" and any(os.environ.get(name) for name in ENDPOINTS)
