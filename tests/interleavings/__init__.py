"""Handlers side by side on real MongoDB, stopped at every store call and released in every order."""
