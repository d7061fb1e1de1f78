"""Programs that measure Warren: the load generator, the benchmark, and the systems that it is compared with."""
