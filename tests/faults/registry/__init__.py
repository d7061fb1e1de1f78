"""Every fault by name, in one file for each part that breaks."""

from tests.faults.context import Fault
from tests.faults.registry import broker, edges, store, workers
from tests.faults.registry.mix import mix_of

_FAULTS = (*workers.FAULTS, *edges.FAULTS, *broker.FAULTS, *store.FAULTS)

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*_FAULTS, mix_of(_FAULTS))}
