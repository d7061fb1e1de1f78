"""Workers consume, decide, store and publish. Any number of each kind may run. They hold no sockets."""
