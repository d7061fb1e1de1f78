"""Bounds under abuse: no client can take more than its share, and each test prints how much that was.

Run them with `-s` to see the figures. Floods of events, frames and attachments, deep JSON and invalid bytes are in
tests/e2e/test_bad_input.py.
"""
