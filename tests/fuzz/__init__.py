"""Random input, made by Hypothesis: frames, payloads, and sequences of events of several users.

`make test` runs a short form, `make fuzz` a long one. A failure prints the smallest input that shows it.
"""
