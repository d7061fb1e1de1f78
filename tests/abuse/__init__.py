"""Attacks on a running Warren, each with bystanders who must not notice it: `make abuse`."""
