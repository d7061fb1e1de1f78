from hypothesis import settings

#: Chosen by `make fuzz`; tests/fuzz/length.py reads it.
settings.register_profile("long")
