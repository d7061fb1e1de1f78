"""The users that a run on somebody's cluster acts as, and their tokens: made with the secret, or read from a file."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jwt

from contracts.errors import WarrenError
from infra.settings import EdgeSettings
from infra.tokens import make_token


class UsersError(WarrenError):
    """Raised when there are no usable tokens for a run; the text says what to do."""


@dataclass(frozen=True)
class Users:
    """Distinct users."""

    ids: tuple[str, ...]
    #: Gives the token of one of them; called at each connect.
    make_token: Callable[[str], str]


def users_from_secret(settings: EdgeSettings, name: str, count: int, lifetime: float) -> Users:
    """Users `NAME-1`, `NAME-2`, … with tokens that live `lifetime` seconds from each connect. Raises NoSecret."""
    ids = tuple(f"{name}-{number}" for number in range(1, count + 1))
    # Without a secret this fails here and not at the first connect.
    make_token(settings, ids[0], ttl=int(lifetime))
    return Users(ids, lambda user_id: make_token(settings, user_id, ttl=int(lifetime)))


def users_from_file(file: Path, count: int | None, lifetime: float) -> Users:
    """The users of a file with one token on each line, the first `count` of them, or all but an odd last one.

    Every token must live `lifetime` seconds more. Signatures are not checked: the edge does that. Raises UsersError.
    """
    tokens: dict[str, str] = {}
    for number, line in enumerate(_lines(file), start=1):
        if not (token := line.strip()):
            continue
        user_id, expires_at = _claims(token, f"{file}, line {number}")
        if user_id in tokens:
            raise UsersError(f"{file}, line {number}: an earlier token is for the same user, {user_id!r}.")
        if expires_at < time.time() + lifetime:
            raise UsersError(f"{file}, line {number}: the token must be valid for another {lifetime:.0f} s.")
        tokens[user_id] = token
    wanted = len(tokens) // 2 * 2 if count is None else count
    if len(tokens) < max(wanted, 2):
        raise UsersError(f"{file} has tokens of {len(tokens)} users, and {max(wanted, 2)} are needed.")
    return Users(tuple(tokens)[:wanted], tokens.__getitem__)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsersError(f"{file} cannot be read: {error}") from None


def _claims(token: str, where: str) -> tuple[str, float]:
    """The user that a token names, and when it expires. No error shows the token."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise UsersError(f"{where}: this is not a JWT.") from None
    user_id, expires_at = claims.get("sub"), claims.get("exp")
    if not isinstance(user_id, str) or not isinstance(expires_at, int | float):
        raise UsersError(f"{where}: the token needs the claims `sub` and `exp`.")
    return user_id, expires_at
