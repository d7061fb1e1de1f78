"""The type of the fixture `make_settings`: makes a worker's settings, with changes by name."""

from collections.abc import Callable

from infra.settings import WorkerSettings

MakeSettings = Callable[..., WorkerSettings]
