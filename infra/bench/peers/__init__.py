"""The systems that the benchmark compares Warren with: short servers that do the same work. See docs/benchmarks."""
