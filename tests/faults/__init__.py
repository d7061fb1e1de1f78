"""Faults injected into a real Warren under load, bounds under abuse, and rolling restarts of a cluster."""
