"""A whole cluster on this machine, restarted piece by piece under load, and drained by more and more workers."""
