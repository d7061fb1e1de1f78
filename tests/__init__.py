"""Tests, and the tools that measure and break Warren."""
