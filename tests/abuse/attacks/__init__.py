"""Every attack by its name. Add yours here; docs/security.md gets a line for each with `make abuse ARGS=--write`."""

from tests.abuse.attack import Attack
from tests.abuse.attacks import connecting, floods, output, use

ATTACKS: dict[str, Attack] = {**connecting.ATTACKS, **floods.ATTACKS, **output.ATTACKS, **use.ATTACKS}
