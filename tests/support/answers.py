"""Collects the acks that commands get."""

import orjson


class Answers:
    """Collects acks by request."""

    def __init__(self) -> None:
        self.acks: dict[int, list[str]] = {}

    def of(self, request: int) -> "AnswerTo":
        """The callback of one request."""
        return AnswerTo(self, request)

    def code(self, request: int) -> str:
        """The error code of the one ack that a request got."""
        (ack,) = self.acks[request]
        return str(orjson.loads(ack)["error"]["code"])


class AnswerTo:
    """The callback of one request."""

    def __init__(self, answers: Answers, request: int) -> None:
        self._answers, self._request = answers, request

    def __call__(self, ack: str) -> None:
        self._answers.acks.setdefault(self._request, []).append(ack)
