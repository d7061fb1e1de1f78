"""The store: the only package that speaks MongoDB. One file per collection; it knows data, not decisions."""
