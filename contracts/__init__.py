"""What crosses a process boundary: commands, facts, frames, errors, topology. Frozen values; no I/O and no settings."""
