"""Loopback ports: free ones are found, taken ones are replaced."""

import socket

from infra.local.ports import free_ports, is_free


def test_a_taken_port_is_replaced_and_no_port_is_given_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        ports = free_ports(port, port, 0)
    assert port not in ports
    assert len(set(ports)) == len(ports)
