"""What can go wrong with services and processes on this machine."""


class LocalServiceError(Exception):
    """Raised when a service on this machine cannot be found, started or reached; the text says what to do."""


class ProcessError(LocalServiceError):
    """Raised when a process does not start, does not stop or ends by itself; the text shows the end of its log."""
