"""The broker adapter: connections, channels, publishing, declarations, dead letters, and the management API."""
