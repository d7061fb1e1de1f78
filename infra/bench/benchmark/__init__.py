"""`make bench`: measures Warren and its peers under the same load; docs/benchmarks says how."""
