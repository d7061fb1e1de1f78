"""What crosses a process boundary: commands, facts, frames, errors and topology as frozen values. No I/O, no settings."""
