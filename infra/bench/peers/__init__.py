"""What people run today, doing the same work as Warren: short servers to hold it against. See docs/benchmarks."""
