"""Settings: read once, refused by name."""

import os
from pathlib import Path

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


@pytest.mark.parametrize(("name", "value"), [("PUBLIC_KEY", "a key"), ("JWKS_URL", "https://example.org/keys")])
def test_public_keys_need_an_issuer_and_an_audience(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"WARREN_JWT_{name}", value)
    with pytest.raises(SettingsError, match="WARREN_JWT_ISSUER and WARREN_JWT_AUDIENCE must be set"):
        load(EdgeSettings)
    monkeypatch.setenv("WARREN_JWT_ISSUER", "https://issuer.test")
    with pytest.raises(SettingsError, match=r"^WARREN_JWT_AUDIENCE must be set"):
        load(EdgeSettings)
    monkeypatch.setenv("WARREN_JWT_AUDIENCE", "warren")
    assert load(EdgeSettings).jwt_audience == "warren"


@pytest.mark.parametrize(
    ("url", "dev", "accepted"),
    [
        ("https://example.org/keys", False, True),
        ("http://example.org/keys", False, False),
        ("http://example.org/keys", True, False),
        ("http://127.0.0.1:8080/keys", False, False),
        ("http://127.0.0.1:8080/keys", True, True),
        ("http://localhost/keys", True, True),
        ("http://127.0.0.1.example.org/keys", True, False),
        ("file:///etc/keys.json", True, False),
        ("https:///keys", False, False),
        ("https://[", False, False),
        ("example.org/keys", False, False),
    ],
)
def test_a_key_set_comes_over_https(monkeypatch: pytest.MonkeyPatch, url: str, dev: bool, accepted: bool) -> None:
    monkeypatch.setenv("WARREN_JWT_JWKS_URL", url)
    monkeypatch.setenv("WARREN_DEV", str(dev))
    monkeypatch.setenv("WARREN_JWT_ISSUER", "https://issuer.test")
    monkeypatch.setenv("WARREN_JWT_AUDIENCE", "warren")
    if accepted:
        assert load(EdgeSettings).jwt_jwks_url == url
    else:
        with pytest.raises(SettingsError, match="WARREN_JWT_JWKS_URL must begin with https:"):
            load(EdgeSettings)


@pytest.mark.parametrize(
    ("host", "exposed", "accepted"),
    [
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("localhost", False, True),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("10.0.0.7", False, False),
        ("chat.example.org", False, False),
        ("0.0.0.0", True, True),
    ],
)
def test_development_mode_listens_on_this_machine_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, host: str, exposed: bool, accepted: bool
) -> None:
    monkeypatch.setenv("WARREN_JWT_SECRET", "s" * 32)
    monkeypatch.setenv("WARREN_EDGE_HOST", host)
    assert load(EdgeSettings).edge_host == host
    monkeypatch.setenv("WARREN_DEV", "true")
    monkeypatch.setenv("WARREN_DEV_EXPOSED", str(exposed))
    if accepted:
        assert load(EdgeSettings).dev
    else:
        with pytest.raises(SettingsError, match=r"WARREN_EDGE_HOST must be a loopback address"):
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
    assert settings.make_edge_id() != settings.make_edge_id()
    assert EdgeSettings(edge_id="edge-a").make_edge_id() == "edge-a"


# --- Secrets from files -----------------------------------------------------------------------------------


def test_secrets_come_from_files_that_are_named_like_the_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a folder of files
    (tmp_path / "WARREN_JWT_SECRET").write_text(f"{SECRET}\n")
    (tmp_path / "warren_amqp_url").write_text("amqp://edge:pass@rabbit:5672/chat")
    (tmp_path / "WARREN_ALLOWED_ORIGINS").write_text('["https://chat.example"]')
    monkeypatch.setenv("WARREN_SECRETS_DIR", str(tmp_path))

    # When settings are read
    settings = load(EdgeSettings)

    # Then they come from there, and no secret is shown
    assert settings.jwt_secret is not None
    assert settings.jwt_secret.get_secret_value() == SECRET, "the line break at the end does not count"
    assert settings.amqp_url.get_secret_value().endswith("/chat")
    assert settings.allowed_origins == ["https://chat.example"]
    assert SECRET not in repr(settings)
    assert "edge:pass" not in repr(settings)


def test_files_behind_links_are_read_as_kubernetes_mounts_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "..2026_01_31").mkdir()
    (tmp_path / "..2026_01_31" / "WARREN_JWT_SECRET").write_text(SECRET)
    (tmp_path / "..data").symlink_to("..2026_01_31")
    (tmp_path / "WARREN_JWT_SECRET").symlink_to("..data/WARREN_JWT_SECRET")
    monkeypatch.setenv("WARREN_SECRETS_DIR", str(tmp_path))
    assert load(EdgeSettings).jwt_secret is not None


def test_the_environment_wins_over_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "WARREN_MONGO_DATABASE").write_text("filed")
    monkeypatch.setenv("WARREN_SECRETS_DIR", str(tmp_path))
    assert load(Settings).mongo_database == "filed"
    monkeypatch.setenv("WARREN_MONGO_DATABASE", "given")
    assert load(Settings).mongo_database == "given"


def test_a_weak_secret_in_a_file_is_refused_by_name_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "WARREN_JWT_SECRET").write_text("short-secret")
    monkeypatch.setenv("WARREN_SECRETS_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match=r"WARREN_JWT_SECRET.*32 bytes") as raised:
        load(EdgeSettings)
    assert "short-secret" not in str(raised.value)


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_a_folder_of_secrets_that_is_none_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("WARREN_SECRETS_DIR", str(tmp_path / what))
    with pytest.raises(SettingsError, match="WARREN_SECRETS_DIR"):
        load(Settings)


# --- TLS --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"AMQP_CA_FILE": "a"}, "WARREN_AMQP_CA_FILE.*begins with amqps"),
        ({"AMQP_URL": "amqps://rabbit/", "AMQP_CA_FILE": "a"}, "WARREN_AMQP_CA_FILE: the file holds no certificate"),
        ({"AMQP_URL": "amqps://rabbit/", "AMQP_CA_FILE": "missing"}, "WARREN_AMQP_CA_FILE"),
        (
            {"AMQP_URL": "amqps://rabbit/", "AMQP_CERTIFICATE_FILE": "a"},
            "WARREN_AMQP_CERTIFICATE_FILE: the file holds no certificate",
        ),
        ({"AMQP_URL": "amqps://rabbit/", "AMQP_KEY_FILE": "a"}, "WARREN_AMQP_KEY_FILE needs"),
        ({"MONGO_CA_FILE": "a"}, "WARREN_MONGO_CA_FILE.* need tls=true"),
        (
            {"MONGO_URL": "mongodb://m/?tls=true", "MONGO_CA_FILE": "a"},
            "WARREN_MONGO_CA_FILE: the file holds no certificate",
        ),
        (
            {"MONGO_URL": "mongodb://m/?ssl=true", "MONGO_CERTIFICATE_KEY_FILE": "a"},
            "WARREN_MONGO_CERTIFICATE_KEY_FILE: the file holds no certificate",
        ),
        ({"MONGO_URL": "mongodb://m/?tls=true&tlsInsecure=true"}, "WARREN_MONGO_URL turns certificate checks off"),
        (
            {"MONGO_URL": "mongodb://m/?tls=true&tlsAllowInvalidHostnames=True"},
            "WARREN_MONGO_URL turns certificate checks off",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_tls_that_would_protect_nobody_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, str], refusal: str
) -> None:
    (tmp_path / "a").write_text("nothing of the kind")
    for name, value in settings.items():
        monkeypatch.setenv(f"WARREN_{name}", str(tmp_path / value) if name.endswith("_FILE") else value)
    with pytest.raises(SettingsError, match=refusal):
        load(Settings)
