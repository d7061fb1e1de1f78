"""Tracing: follows messages from socket to socket. Off unless WARREN_TRACES_URL is set.

`tracer.py` has the places where a message can be followed; by default they do nothing. `otel.py` is what `start` puts
there, and the only file that knows OpenTelemetry.
"""

from infra.settings import Settings, SettingsError
from infra.tracing.tracer import Tracer

#: The tracer of this process.
current = Tracer()


def start(settings: Settings, service: str, instance: str) -> None:
    """Follow messages from now on, if the settings say so. Raises SettingsError when warren[otel] is missing."""
    global current
    if settings.traces_url is None:
        return
    try:
        # Who traces nothing needs no OpenTelemetry.
        from infra.tracing.otel import OpenTelemetryTracer  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(f"WARREN_TRACES_URL needs warren[otel], which is not installed ({error})") from None
    current = OpenTelemetryTracer(settings.traces_url, settings.traces_share, service, instance)
