"""Users of a load run: distinct, with tokens that live long enough, and no token in any error."""

from pathlib import Path

import jwt
import pytest

from infra.bench.load.users import UsersError, users_from_file, users_from_secret
from infra.settings import EdgeSettings, load
from infra.tokens import make_token

SECRET = "s" * 32


@pytest.fixture
def settings() -> EdgeSettings:
    return load(EdgeSettings, jwt_secret=SECRET, jwt_issuer="https://issuer.example.org")


def token_file(folder: Path, *tokens: str) -> Path:
    file = folder / "tokens"
    file.write_text("\n".join(tokens))
    return file


def test_a_secret_makes_numbered_users_whose_tokens_edges_accept(settings: EdgeSettings) -> None:
    users = users_from_secret(settings, "load", 4, lifetime=60)
    assert users.ids == ("load-1", "load-2", "load-3", "load-4")
    claims = jwt.decode(users.make_token("load-3"), SECRET, algorithms=["HS256"], issuer=settings.jwt_issuer)
    assert claims["sub"] == "load-3"


def test_a_file_gives_its_users_in_order_and_an_odd_last_one_is_left_out(
    settings: EdgeSettings, tmp_path: Path
) -> None:
    tokens = [make_token(settings, name, ttl=600) for name in ("ada", "bob", "eve")]
    users = users_from_file(token_file(tmp_path, tokens[0], "", f"  {tokens[1]} ", tokens[2]), None, lifetime=60)
    assert users.ids == ("ada", "bob")
    assert users.make_token("bob") == tokens[1]


@pytest.mark.parametrize(
    ("lines", "count", "sentence"),
    [
        (["ada", "garbage"], None, "line 2: this is not a JWT."),
        (["ada", "ada"], None, "line 2: an earlier token is for the same user, 'ada'."),
        (["ada", "late"], None, "line 2: the token must be valid for another 60 s."),
        (["ada", "nobody"], None, "line 2: the token needs the claims `sub` and `exp`."),
        (["ada"], None, "has tokens of 1 users, and 2 are needed."),
        (["ada", "bob"], 4, "has tokens of 2 users, and 4 are needed."),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_the_token(
    lines: list[str], count: int | None, sentence: str, settings: EdgeSettings, tmp_path: Path
) -> None:
    tokens = {
        **{name: make_token(settings, name, ttl=600) for name in ("ada", "bob")},
        "late": make_token(settings, "late", ttl=30),
        "nobody": jwt.encode({"name": "nobody"}, SECRET, algorithm="HS256"),
        "garbage": "garbage",
    }
    with pytest.raises(UsersError) as refused:
        users_from_file(token_file(tmp_path, *(tokens[line] for line in lines)), count, lifetime=60)
    assert sentence in str(refused.value)
    assert not any(token in str(refused.value) for token in tokens.values())
