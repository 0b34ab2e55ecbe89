"""Minting, recognising and sealing."""

import re
import secrets
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.core import keys
from stile.core.keys import Pepper, PresentedKey

USER = "4f9d7a6e-0000-4000-8000-0123456789ab"
PEPPER = Pepper({1: b"p" * 32})
OTHER = Pepper({1: b"q" * 32})

users = st.uuids().map(str)
slots = st.integers(1, keys.SLOTS)
nonces = st.binary(min_size=keys.NONCE_BYTES, max_size=keys.NONCE_BYTES)
randomness = st.binary(min_size=keys.SECRET_BYTES, max_size=keys.SECRET_BYTES)


def mint(pepper: Pepper = PEPPER, slot: int = 3) -> str:
    key_id = keys.make_id(pepper.newest, USER, slot, secrets.token_bytes(keys.NONCE_BYTES))
    return pepper.mint(key_id, secrets.token_bytes(keys.SECRET_BYTES))


def parsed(text: str) -> PresentedKey:
    key = keys.parse(text)
    assert key is not None
    return key


@given(users, slots, nonces, randomness)
def test_a_minted_key_is_recognised_and_names_user_and_slot(user: str, slot: int, nonce: bytes, random: bytes) -> None:
    key_id = keys.make_id(1, user, slot, nonce)
    text = PEPPER.mint(key_id, random)
    assert re.fullmatch("[A-Za-z0-9-]{1,129}", text)
    key = parsed(text)
    assert PEPPER.was_minted(key)
    assert not OTHER.was_minted(key)
    assert keys.read_id(key.id) == key_id
    assert (key_id.user_id, key_id.slot) == (user, slot)


@given(st.text(max_size=200))
def test_any_text_is_a_key_or_none(text: str) -> None:
    assert keys.parse(text) is None or re.fullmatch("[A-Za-z0-9-]+", text)
    keys.read_id(text)


@given(st.integers(0, 116), st.characters(codec="ascii"))
def test_one_changed_character_is_refused(position: int, character: str) -> None:
    text = mint()
    changed = text[:position] + character + text[position + 1 :]
    key = keys.parse(changed)
    assert changed == text or key is None or not PEPPER.was_minted(key)


def test_a_key_in_other_letter_case_or_cut_short_is_refused() -> None:
    text = mint()
    for changed in (text.upper(), text.swapcase(), text[:-1], text[1:], text + "0", f" {text}", f"{text}\n"):
        key = keys.parse(changed)
        assert key is None or not PEPPER.was_minted(key)


def test_secrets_are_long_and_new_each_time() -> None:
    made = {mint() for _ in range(100)}
    assert len(made) == 100
    assert 62**43 > 2**256


def test_older_pepper_versions_still_recognise_their_keys() -> None:
    old = mint()
    both = Pepper({1: b"p" * 32, 2: b"r" * 32})
    assert both.was_minted(parsed(old))
    assert both.digest(parsed(old)) == PEPPER.digest(parsed(old))
    assert mint(both).startswith("sk-stile-02")
    assert not PEPPER.was_minted(parsed(mint(both)))


def test_a_digest_tells_nothing_without_the_pepper() -> None:
    key = parsed(mint())
    assert PEPPER.digest(key) != OTHER.digest(key)
    assert key.signed.decode() not in PEPPER.digest(key)


def test_a_seal_holds_for_one_user_attribute_and_value_only() -> None:
    sealed = PEPPER.seal(USER, "role", '"admin"')
    assert PEPPER.unseal(USER, "role", sealed) == '"admin"'
    assert PEPPER.unseal(str(uuid.uuid4()), "role", sealed) is None
    assert PEPPER.unseal(USER, "policy", sealed) is None
    assert PEPPER.unseal(USER, "role", sealed.replace("admin", "owner")) is None
    assert OTHER.unseal(USER, "role", sealed) is None


@given(st.text())
def test_anything_without_a_seal_is_refused(text: str) -> None:
    assert PEPPER.unseal(USER, "role", text) is None


def test_subkeys_are_hkdf() -> None:
    """RFC 5869, test case 3: no salt, no info; the first 32 bytes of its output."""
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert keys._hkdf(b"\x0b" * 22, b"").hex() == expected


@pytest.mark.parametrize("text", ["0" * 48, "01" + "a" * 32 + "15" + "0" * 12, "", "0" * 47, "G" * 48])
def test_an_id_with_a_slot_that_cannot_be_is_none(text: str) -> None:
    assert keys.read_id(text) is None


def test_nothing_secret_is_printed() -> None:
    assert repr(PEPPER) == "Pepper(***)"
