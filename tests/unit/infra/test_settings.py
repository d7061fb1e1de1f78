"""Settings: read once, refused by name."""

import os

import pytest

from infra.settings import EdgeSettings, Settings, SettingsError, load

SECRET = "a secret of at least 32 bytes, really"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WARREN_")]:
        monkeypatch.delenv(name)


def test_defaults_are_enough_for_a_worker() -> None:
    assert load(Settings).mongo_database == "warren"


def test_an_edge_without_a_key_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="WARREN_JWT_SECRET"):
        load(EdgeSettings)


def test_two_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARREN_JWT_SECRET", SECRET)
    monkeypatch.setenv("WARREN_JWT_JWKS_URL", "https://example.org/keys")
    with pytest.raises(SettingsError, match="exactly one"):
        load(EdgeSettings)


def test_a_weak_secret_is_refused_by_name_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARREN_JWT_SECRET", "short-secret")
    with pytest.raises(SettingsError, match=r"WARREN_JWT_SECRET.*32 bytes") as raised:
        load(EdgeSettings)
    assert "short-secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("EDGE_PORT", "eighty"), ("EDGE_PORT", "70000"), ("RATE_LIMIT", "-1"), ("LOG_LEVEL", "LOUD"), ("DEV", "perhaps")],
)
def test_a_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("WARREN_JWT_SECRET", SECRET)
    monkeypatch.setenv(f"WARREN_{name}", value)
    with pytest.raises(SettingsError, match=f"WARREN_{name}"):
        load(EdgeSettings)


def test_an_edge_has_a_name_that_never_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARREN_JWT_SECRET", SECRET)
    settings = load(EdgeSettings)
    assert settings.name() != settings.name()
    assert EdgeSettings(edge_id="edge-a").name() == "edge-a"
