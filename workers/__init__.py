"""Consume, decide, store, publish. Any number of each worker may run; none of them holds a socket."""
