"""`python -m infra load`: refuses wrong input in a sentence, and its exit code and JSON follow from the check."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contracts.errors import WarrenError
from infra.__main__ import app
from infra.bench.checker import LOST, Verdict
from infra.bench.load import cluster_run
from infra.bench.load.figures import Quantiles, TrafficFigures
from infra.bench.load.usage import Usage

EDGE = ("--edge", "http://127.0.0.1:1")
SECRET = "s" * 32


def load(*arguments: str, **env: str) -> tuple[int, str]:
    """Run the command without settings but these; return its exit code, and its output without line breaks."""
    result = CliRunner().invoke(app, ["load", *arguments], env={"WARREN_JWT_SECRET": "", "COLUMNS": "300", **env})
    # `python -m infra` prints a WarrenError as its sentence
    output = str(result.exception) if isinstance(result.exception, WarrenError) else result.output
    return result.exit_code, " ".join(output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--people", "4"], "--people: needs --edge"),
        (["--seconds", "4", "latency"], "--seconds: needs --edge"),
        ([*EDGE, "latency"], "a scenario starts a Warren of its own: leave it out"),
        (["--edge", "chat.example.org"], "'chat.example.org' is no address such as http://"),
        (["--edge", "ftp://chat.example.org"], "is no address such as http://"),
        (["--edge", "http://127.0.0.1:port"], "is no address such as http://"),
        (["--edge", "http://127.0.0.1:8001/chat"], "is no address such as http://"),
        ([*EDGE, "--people", "3"], "must be even: people talk in pairs"),
        ([*EDGE, "--in-flight", "3"], "--in-flight: needs --rate 0"),
        ([*EDGE, "--rate", "1000", "--seconds", "3600"], "is over 500,000 messages in 3600 s, the limit"),
        ([*EDGE, "--seconds", "4000"], "--seconds': Input should be less than or equal to 3600"),
        ([*EDGE, "--secret-file", "/does/not/exist"], "does not exist"),
        (["--json", "/does/not/exist", "latency"], "there is no folder /does/not"),
        (["kill", "--worker", "typing"], "no such worker: typing; there are persistence, unread, presence, history"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(arguments: list[str], sentence: str) -> None:
    code, output = load(*arguments)
    assert code == 2
    assert sentence in output


def test_a_secret_excludes_tokens_and_tokens_name_their_users(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "excludes --secret-file" in load(*EDGE, "--secret-file", str(file), "--token-file", str(file))[1]
    assert "the tokens in --token-file name the users" in load(*EDGE, "--token-file", str(file), "--name", "x")[1]


@pytest.mark.parametrize(
    ("secret", "sentence"),
    [
        ("", "Tokens are needed: give --secret-file or --token-file, or set WARREN_JWT_SECRET."),
        ("short", "WARREN_JWT_SECRET: must have at least 32 bytes"),
    ],
)
def test_a_missing_or_weak_secret_is_named(secret: str, sentence: str) -> None:
    code, output = load(*EDGE, WARREN_JWT_SECRET=secret)
    assert code == 1
    assert output == sentence


@pytest.mark.parametrize("arguments", [EDGE, ("latency",), ()])
def test_without_its_libraries_it_names_the_extra(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.cli.load.find_spec", lambda library: None)
    code, output = load(*arguments, WARREN_JWT_SECRET=SECRET)
    assert code == 1
    assert output == "The load generator needs picows and psutil: install warren[bench]."


def test_an_edge_that_does_not_answer_ends_the_run(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    code, output = load(*EDGE, "--json", str(figures), WARREN_JWT_SECRET=SECRET)
    assert code == 1
    assert "The run did not finish: load-" in output
    assert "cannot connect to http://127.0.0.1:1:" in output
    assert not figures.exists()


@pytest.mark.parametrize("complaints", [[], [(LOST, "message 1 is not stored")]])
def test_the_exit_code_and_the_figures_follow_from_the_check(
    complaints: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_on_cluster(*_: object) -> TrafficFigures:
        quantiles = Quantiles(1.0, 2.0, 3.0, 4.0)
        verdict = Verdict(5, 5, 0, 5, 5, complaints)
        usage = Usage(seconds=5.0, cpu={"generator": 0.1}, machine=0.5)
        return TrafficFigures("10/s", 10.0, 5, quantiles, quantiles, usage, Counter(), 0, True, verdict)

    # Given a run whose check finds this
    monkeypatch.setattr(cluster_run, "run_on_cluster", run_on_cluster)
    figures = tmp_path / "figures.json"

    # When the command has run
    code, output = load(*EDGE, "--json", str(figures), WARREN_JWT_SECRET=SECRET)

    # Then its exit code, its table and its file agree
    assert code == bool(complaints)
    assert ("message 1 is not stored" in output) == bool(complaints)
    written = json.loads(figures.read_text())
    assert written["passed"] == (not complaints)
    assert written["scenarios"][0]["check"]["lost"] == len(complaints)
    assert SECRET not in output + figures.read_text()
