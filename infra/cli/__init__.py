"""Operator commands, one file each; `infra/__main__.py` wires them."""
