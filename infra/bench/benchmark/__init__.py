"""`make bench`: Warren and its peers in turn under the same load; docs/benchmarks says what is measured."""
