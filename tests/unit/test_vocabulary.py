"""Words that were replaced stay gone: each concept has one name, the field's own, and prose has no riddles.

A name or phrase goes onto a list here when it is replaced everywhere. The changelog keeps its history, and so do
snapshots, lock files and licences. Files that quote a word on purpose are exempt from it.
"""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Where old words may stay: history, copies of other people's text, what tools write, and this list itself.
EXEMPT = re.compile(
    r"CHANGELOG\.md|LICENSE|contracts/snapshots/.*|(.*/)?requirements\.lock|(.*/)?package-lock\.json"
    r"|tests/unit/test_vocabulary\.py"
)
#: Files that quote phrases in order to forbid them.
QUOTING = {"CONTRIBUTING.md", "tests/unit/test_documents.py"}
#: Folders that are not part of the source, for a tree without git.
NO_SOURCE = {".git", ".venv", ".stack", "node_modules", "dist", "build", "__pycache__"}

#: Names in Python code, and what they are called now.
NAMES = {
    "_AWAY": "UNAVAILABLE_ERRORS",
    "_NOT_NOW": "TRANSIENT_CODES",
    "after_sending": "after_frames",
    "and_earlier": "multiple",
    "ask_again": "resend_pending",
    "at_most_every": "cached",
    "bury": "dead_letter",
    "close_all": "report_all_closed",
    "EdgeAlive": "LeaseRenew",
    "EdgeLost": "SessionsDrop",
    "edges_seen_at": "leases_renewed_at",
    "Election": "Term",
    "filter_": "letter_filter",
    "Findings": "Location",
    "given_up": "abandoned",
    "guarded": "translated_errors",
    "knows_key_of": "has_key_for",
    "LASTING_QUEUES": "REPLICATED_QUEUES",
    "LocalUser": "ConnectedUser",
    "LOST_GRACE_MS": "DROP_GRACE_MS",
    "MAX_TERMS": "MAX_SEARCH_WORDS",
    "moment_of": "utc_datetime",
    "needed_by": "queues_needed_by",
    "Outbox": "Effects",
    "register_all": "register_all_again",
    "replies_reach_us": "can_receive_replies",
    "send_frames": "publish_frames",
    "Sender": "EffectsPublisher",
    "watch_the_clock": "monitor_event_loop",
}
#: Names of modules, and what is there now.
MODULES = {
    "birds": "synthetic_users",
    "chatter": "chat_client",
    "crowd": "chat_traffic",
    "dead": "dead_letters",
    "drift": "topology_check",
    "ground": "environment",
    "memory": "gc",
    "recent": "header_cache",
    "sending": "publishing",
    "shell": "console",
    "signs": "symptoms",
    "telemetry": "tracing",
    "test_the_four_bugs": "test_ghost_chats, test_unread_counts and others",
    "test_trouble": "test_broker_outages and others",
    "test_watching": "test_monitoring",
    "traces": "tracing",
    "wire": "server",
}
#: Words in any file, code or prose, and what is written now.
WORDS = {
    "Bird": "SyntheticUser",
    "birds": "synthetic users",
    "Chatter": "ChatClient",
    "duties": "effects",
    "edge.alive": "lease.renew",
    "edge.lost": "sessions.drop",
    "honcho": "the supervisor of infra/local",
    "obligations": "effects",
    "one_filled_first": "fill_one_consumer_first",
    "Scene": "Context",
    "seen_at": "renewed_at, of an edge's lease",
    "Survey": "Summary",
    "trouble": "error, not_ready_reason",
    "troubles": "errors",
    "tweet": "canary",
    "Wanted": "LetterFilter",
    "warren_edge_asked_again_total": "warren_edge_resent_commands_total",
    "WARREN_TRACES_SHARE": "WARREN_TRACES_SAMPLE_RATIO",
}
#: Phrases in any file, in any case of letters, and the plain words for them.
PHRASES = {
    "asks services on the net": "uses the network",
    "by far not": "not",
    "came again": "was redelivered",
    "comes again": "is redelivered",
    "Debian or its like": "Debian and Ubuntu",
    "find your room": "where to make a change",
    "memory.settle": "gc.tune",
    "nobody's is believed": "the header is ignored",
    "of what so many users need": "how many processes a number of users needs",
    "stands still": "is stalled",
    "stood still": "stalled",
    "whoever had them": "their first consumer",
}


def tracked_files() -> list[Path]:
    """Every file of the source: what git tracks, or the whole tree without what is generated."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [file for file in ROOT.rglob("*") if not NO_SOURCE.intersection(file.relative_to(ROOT).parts)]
    return [file for file in sorted(found) if file.is_file() and not EXEMPT.fullmatch(name_of(file))]


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def text_of(file: Path) -> str:
    """The text of a file; empty where it is not text."""
    try:
        return file.read_text()
    except UnicodeDecodeError:
        return ""


def gone_names(text: str) -> Iterator[tuple[int, str]]:
    """The lines of Python code with a name of `NAMES`."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and token.string in NAMES:
            yield token.start[0], token.string


def gone_words(text: str, *, phrases: bool = True) -> Iterator[tuple[int, str]]:
    """The lines of a text with a word of `WORDS` or a phrase of `PHRASES`; a phrase may run over a line's end."""
    yield from _found(_WORDS, text)
    if phrases:
        yield from _found(_PHRASES, text)


def _found(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    for match in pattern.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split())


def _any_of(words: dict[str, str], flags: int = 0) -> re.Pattern[str]:
    # Between two words of a phrase, a line may end, and a comment begin anew
    parts = [r"[\s#*/]+".join(re.escape(word) for word in phrase.split()) for phrase in words]
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)", flags)


_WORDS = _any_of(WORDS)
_PHRASES = _any_of(PHRASES, re.IGNORECASE)
FILES = tracked_files()


def test_no_python_name_is_one_that_was_replaced() -> None:
    code = [file for file in FILES if file.suffix == ".py"]
    assert [
        f"{name_of(file)}:{line}: {name} is now {NAMES[name]}"
        for file in code
        for line, name in gone_names(text_of(file))
    ] == []


def test_no_module_is_called_by_a_name_that_was_replaced() -> None:
    modules = [file for file in FILES if file.suffix == ".py" and file.stem in MODULES]
    assert [f"{name_of(file)}: see {MODULES[file.stem]}" for file in modules] == []


def test_no_text_has_a_word_or_phrase_that_was_replaced() -> None:
    assert [
        f"{name_of(file)}:{line}: {word!r}"
        for file in FILES
        for line, word in gone_words(text_of(file), phrases=name_of(file) not in QUOTING)
    ] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The process Stood still.", [(1, "Stood still")]),
        ("# Messages\n# came\n# again.\n", [(2, "came # again")]),
        ("a Bird\nin trouble", [(1, "Bird"), (2, "trouble")]),
        ("Birdsong, troubled, understood still", []),
    ],
)
def test_words_are_found_whole_and_over_the_ends_of_lines(text: str, found: list[tuple[int, str]]) -> None:
    assert list(gone_words(text)) == found


def test_names_are_found_in_code_and_not_in_its_prose() -> None:
    code = """"To bury."\n\nx.bury(buried, filter_=y)\n"""
    assert list(gone_names(code)) == [(3, "bury"), (3, "filter_")]
