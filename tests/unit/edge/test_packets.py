"""Packets as text: what the installed Socket.IO library reads out of them."""

import json

import socketio.packet as library

from contracts.errors import Code, Refused
from edge.packets import DISCONNECT, ack_packet, connect_error_data, connect_error_packet, event_packet

AWKWARD = '"quotes", [brackets] {braces}, \\u2028 and 😀'


def read(text: str) -> library.Packet:
    """A packet as a client reads it, behind Engine.IO's `4`."""
    assert text[0] == "4"
    return library.Packet(encoded_packet=text[1:])


def test_an_event_has_one_argument() -> None:
    packet = read(event_packet("new_message", json.dumps({"body": AWKWARD})))
    assert (packet.packet_type, packet.id) == (library.EVENT, None)
    assert packet.data == ["new_message", {"body": AWKWARD}]


def test_an_ack_has_the_number_of_its_event() -> None:
    for number in (0, 7, 10**18):
        packet = read(ack_packet(number, json.dumps({"ok": True, "data": AWKWARD})))
        assert (packet.packet_type, packet.id) == (library.ACK, number)
        assert packet.data == [{"ok": True, "data": AWKWARD}]


def test_a_refusal_is_a_connect_error_with_code_words_and_whether_to_retry() -> None:
    error = Refused(Code.TOO_MANY_CONNECTIONS, "There is no room.").error
    packet = read(connect_error_packet(error))
    assert packet.packet_type == library.CONNECT_ERROR
    assert packet.data == {"message": "too_many_connections", "data": connect_error_data(error)}
    assert connect_error_data(error) == {
        "code": "too_many_connections",
        "message": "There is no room.",
        "retryable": True,
    }


def test_a_disconnect_is_of_the_default_namespace() -> None:
    packet = read(DISCONNECT)
    assert packet.packet_type == library.DISCONNECT
    assert packet.namespace in (None, "/")
