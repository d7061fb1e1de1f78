"""`status`: a row for each queue, by what the broker's management API says."""

import pytest

from tests.support.management_api import management_api
from tests.support.operator_commands import operate


def test_each_queue_is_a_row_in_the_order_of_names() -> None:
    # Given a broker with a busy queue and one that nobody has used yet
    busy = {
        "name": "persistence",
        "messages_ready": 3,
        "messages_unacknowledged": 200,
        "consumers": 2,
        "message_stats": {
            "publish_details": {"rate": 100.0},
            "deliver_get_details": {"rate": 99.5},
            "ack_details": {"rate": 98.25},
        },
    }
    with management_api({"/api/queues/chat%2Froom": [{"name": "typing"}, busy]}) as url:
        # When an operator asks for the state of its virtual host
        env = {"WARREN_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/chat%2Froom", "WARREN_MANAGEMENT_URL": url}
        shown = operate("status", env=env)

    # Then each queue is a row
    assert shown.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.output.splitlines() if "│" in line]
    assert rows == [
        ["persistence", "3", "200", "2", "100.0", "99.5", "98.2"],
        ["typing", "0", "0", "0", "0.0", "0.0", "0.0"],
    ]


@pytest.mark.parametrize(
    ("answers", "reason"), [({}, "404 Not Found"), ({"/api/queues/%2F": b"<html>"}, "what is there speaks no JSON")]
)
def test_an_answer_that_is_none_is_one_sentence_without_the_password(answers: dict[str, object], reason: str) -> None:
    with management_api(answers) as url:
        with_password = url.replace("://", "://ada:top-secret@")
        env = {"WARREN_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/", "WARREN_MANAGEMENT_URL": with_password}
        failed = operate("status", env=env)
    assert failed.exit_code == 1
    where = url.removeprefix("http://")
    assert failed.output.splitlines() == [
        f"The management API at {where} does not answer ({reason}). If it is elsewhere, set WARREN_MANAGEMENT_URL."
    ]
