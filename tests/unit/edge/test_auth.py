"""TokenVerifier: which tokens are good for which kind of key, what they tell, and how a key set is fetched."""

import asyncio
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.errors import Code, Refused
from contracts.values import MAX_NAME, MAX_PICTURE
from edge.auth import MAX_TOKEN, Identity, TokenVerifier
from infra.settings import EdgeSettings, SettingsError
from tests.support.forged_tokens import EC_KEY, RSA_KEY, YEAR_2100, Json, PrivateKey, claims, forge, pem

SECRET = "a secret of at least 32 bytes, really"


#: What edges with public keys demand of tokens.
MEANT_FOR_US = {"iss": "https://issuer.test", "aud": "warren"}


def verifier(**settings: object) -> TokenVerifier:
    """A verifier with these settings; with the secret, unless a public key is given."""
    public: dict[str, object] = {"jwt_issuer": MEANT_FOR_US["iss"], "jwt_audience": MEANT_FOR_US["aud"]}
    key: dict[str, object] = public if "jwt_public_key" in settings else {"jwt_secret": SECRET}
    return TokenVerifier(EdgeSettings.model_validate({**key, **settings}))


def signed(payload: Json) -> str:
    return forge({"alg": "HS256", "typ": "JWT"}, payload, SECRET.encode())


def code_of(tokens: TokenVerifier, token: object) -> Code:
    """The code with which a token is refused."""
    with pytest.raises(Refused) as refused:
        tokens.verify(token)
    assert not refused.value.error.retryable
    return refused.value.error.code


# --- What a token tells -----------------------------------------------------------------------------------


def test_a_token_tells_who_and_until_when() -> None:
    expires = int(time.time()) + 600
    token = signed({"sub": "ada", "exp": expires, "name": " Ada ", "picture": "https://pictures.test/ada.png"})
    assert verifier().verify(token) == Identity("ada", "Ada", "https://pictures.test/ada.png", float(expires))


@pytest.mark.parametrize("name", [None, "", "   ", 7, ["Ada"], {"first": "Ada"}, "\u202e", "\x07\x00"])
def test_a_user_without_a_name_is_called_by_their_id(name: Json) -> None:
    assert verifier().verify(signed(claims("ada", name=name))).name == "ada"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Eve \ud83d", "Eve \ufffd"),
        ("Ada\u202eecalevoL", "AdaecalevoL"),
        ("\u2067Ada\u2069\u200f", "Ada"),
        ("Ada\nLovelace\x1b[31m", "Ada Lovelace[31m"),
    ],
)
def test_a_name_has_no_controls_and_can_be_encoded(name: str, shown: str) -> None:
    identity = verifier().verify(signed(claims("ada", name=name)))
    assert identity.name == shown
    identity.name.encode()


def test_a_long_name_is_cut() -> None:
    assert verifier().verify(signed(claims("ada", name="x" * 5_000))).name == "x" * MAX_NAME


@pytest.mark.parametrize(
    "picture",
    [
        *(
            None,
            7,
            "",
            "javascript:alert(1)",
            "data:image/png,x",
            "//pictures.test/a.png",
            "https://" + "x" * MAX_PICTURE,
        ),
        *("https://pictures.test/\ud83d.png", "https://pictures.test/\u202egnp.exe", "https://pictures.test/a\nb"),
    ],
)
def test_a_picture_that_is_no_short_web_address_is_left_out(picture: Json) -> None:
    assert verifier().verify(signed(claims("ada", picture=picture))).picture is None


# --- Refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [None, "", 7, ["a"], {"$gt": ""}, b"a.b.c", "nonsense", "a.b.c", "...", "x" * (MAX_TOKEN + 1), "é.é.é", "\x00"],
    ids=lambda token: repr(token)[:20],
)
def test_what_is_no_token_is_unauthorized(token: object) -> None:
    assert code_of(verifier(), token) == Code.UNAUTHORIZED


@pytest.mark.parametrize(
    "changed",
    [
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"sub": "x" * 129},
        {"sub": "a\nb"},
        {"sub": "a\ud83d"},
        {"sub": "a\u202eb"},
        {"sub": "a\x9b"},
        {"sub": ["a"]},
        {"exp": None},
        {"exp": "soon"},
        {"exp": []},
        {"exp": 1e400},
        {"nbf": YEAR_2100},
        {"iat": "yesterday"},
    ],
    ids=lambda changed: json.dumps(changed)[:40],
)
def test_claims_that_are_missing_or_wrong_are_refused(changed: dict[str, Json]) -> None:
    assert code_of(verifier(), signed(claims("ada", **changed))) == Code.UNAUTHORIZED


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "NONE"}, {}, {"alg": "HS512"}, {"alg": ["HS256"]}])
def test_a_header_cannot_choose_how_a_token_is_checked(header: Json) -> None:
    for secret in (None, SECRET.encode()):
        assert code_of(verifier(), forge(header, claims("ada"), secret)) == Code.UNAUTHORIZED


def test_a_signature_of_another_secret_or_over_other_claims_is_refused() -> None:
    head, _, signature = signed(claims("ada")).split(".")
    others = signed(claims("bob")).split(".")[1]
    for token in (jwt.encode(claims("ada"), "x" * 40), f"{head}.{others}.{signature}", f"{head}.{others}."):
        assert code_of(verifier(), token) == Code.UNAUTHORIZED


def test_an_expired_token_is_refused_as_such_unless_within_the_leeway() -> None:
    token = signed(claims("ada", exp=int(time.time()) - 5))
    assert code_of(verifier(jwt_leeway=0), token) == Code.TOKEN_EXPIRED
    assert verifier(jwt_leeway=60).verify(token).user_id == "ada"


@pytest.mark.parametrize("claim", [None, False, "true", 1, [True]])
def test_only_true_verifies_a_user_where_that_is_asked_for(claim: Json) -> None:
    tokens = verifier(jwt_verified_claim="email_verified")
    assert code_of(tokens, signed(claims("ada", email_verified=claim))) == Code.NOT_VERIFIED
    assert tokens.verify(signed(claims("ada", email_verified=True))).user_id == "ada"


@pytest.mark.parametrize("wrong", [{"iss": "other"}, {"iss": None}, {"aud": "other"}, {"aud": []}, {"aud": None}])
def test_issuer_and_audience_are_checked_where_they_are_set(wrong: dict[str, Json]) -> None:
    tokens = verifier(jwt_issuer="https://issuer.test", jwt_audience="warren")
    good = {"iss": "https://issuer.test", "aud": ["others", "warren"]}
    assert tokens.verify(signed(claims("ada", **good))).user_id == "ada"
    assert code_of(tokens, signed(claims("ada", **{**good, **wrong}))) == Code.UNAUTHORIZED


def test_an_audience_that_nobody_asked_for_does_no_harm() -> None:
    assert verifier().verify(signed(claims("ada", aud="others", iss="somebody"))).user_id == "ada"


# --- A public key -----------------------------------------------------------------------------------------


OTHER_KEYS: dict[str, PrivateKey] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
}


@pytest.mark.parametrize(("key", "algorithm"), [(RSA_KEY, "RS256"), (EC_KEY, "ES256")], ids=["RS256", "ES256"])
def test_a_public_key_is_good_for_one_algorithm_alone(key: PrivateKey, algorithm: str) -> None:
    # Given a verifier that has the public half of a key
    tokens = verifier(jwt_public_key=pem(key))
    good = claims("ada", **MEANT_FOR_US)

    # Then what the private half signed is good
    assert tokens.verify(jwt.encode(good, key, algorithm=algorithm)).user_id == "ada"

    # And nothing is that anybody could make who knows the public half
    public = pem(key)
    forged = [forge({"alg": "HS256"}, good, text.encode()) for text in (public, public.strip())]
    forged.append(forge({"alg": "none"}, good, None))
    forged.append(jwt.encode(good, OTHER_KEYS[algorithm], algorithm=algorithm))
    if algorithm == "RS256":
        forged += [jwt.encode(good, key, algorithm=other) for other in ("RS512", "PS256")]
    for token in forged:
        assert code_of(tokens, token) == Code.UNAUTHORIZED


ED_KEY = ed25519.Ed25519PrivateKey.generate().public_key()
P384_KEY = ec.generate_private_key(ec.SECP384R1())
SMALL_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "",
        pem(P384_KEY),
        pem(SMALL_KEY),
        ED_KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    ],
    ids=["nonsense", "empty", "P-384", "RSA of 1024 bits", "Ed25519"],
)
def test_a_public_key_of_another_kind_is_refused_at_start(text: str) -> None:
    with pytest.raises(SettingsError, match="WARREN_JWT_PUBLIC_KEY"):
        verifier(jwt_public_key=text)


async def test_without_a_key_set_nothing_is_fetched() -> None:
    tokens = verifier()
    token = jwt.encode(claims("ada"), RSA_KEY, algorithm="RS256", headers={"kid": "rsa"})
    assert tokens.has_key_for(token)
    await asyncio.wait_for(tokens.wait_for_key(token), 1)
    await asyncio.wait_for(tokens.run(), 1)
    assert tokens.ready
