"""RabbitMQ, MongoDB and the whole of Warren on this machine, for development and tests."""

from infra.local.mongod import Mongod
from infra.local.process import LocalServiceError
from infra.local.rabbitmq import RabbitNode
from infra.local.services import (
    Services,
    create_vhost,
    delete_vhost,
    ensure_services,
    running_services,
    stop_services,
    using_services,
)

__all__ = [
    "LocalServiceError",
    "Mongod",
    "RabbitNode",
    "Services",
    "create_vhost",
    "delete_vhost",
    "ensure_services",
    "running_services",
    "stop_services",
    "using_services",
]
