"""RabbitMQ, MongoDB and the whole of Warren on this machine, for development, tests and measurements."""
