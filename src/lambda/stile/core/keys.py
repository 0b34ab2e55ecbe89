"""API keys: how one is minted, recognised and hashed, and how directory records are sealed.

A key is `sk-stile-<id>-<secret>`. The id is hex: pepper version (1 byte), user (a UUID, 16 bytes), slot (1 byte),
nonce (6 bytes); it names the one directory attribute that knows the key, and the nonce keeps a reused slot from
reviving an old key. The secret is 256 random bits in base 62, then a 64-bit tag in hex.

Three subkeys come from the pepper by HKDF (RFC 5869): `tag`, `hash`, `seal`. The tag is HMAC-SHA256(tag, id-secret),
truncated, so a key that was never minted is refused with no I/O. The record keeps HMAC-SHA256(hash, id-secret). Each
stored attribute ends in HMAC-SHA256(seal, user, attribute, value): who can write the directory can still not grant.

All compares of secret values are in constant time (hmac.compare_digest).
"""

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping

import msgspec

PREFIX = "sk-stile-"
SLOTS = 20
SECRET_BYTES = 32
NONCE_BYTES = 6
PEPPER_CHARS = 32

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARS = 48
_SECRET_CHARS = 43  # 62**43 > 2**256
_TAG_CHARS = 16
_SEAL_CHARS = 32
_BLOCK_BYTES = 64
_KEY = re.compile(rf"{PREFIX}([0-9a-f]{{48}})-([0-9A-Za-z]{{{_SECRET_CHARS}}}[0-9a-f]{{{_TAG_CHARS}}})")
_ID = re.compile(r"[0-9a-f]{48}")


class KeyId(msgspec.Struct, frozen=True):
    """What a key's id says. `text` is the id itself, 48 hex characters, safe in a URL."""

    text: str
    version: int
    user_id: str
    slot: int
    nonce: str


class PresentedKey(msgspec.Struct, frozen=True):
    """A well-formed key that somebody sent; nothing is known of it yet."""

    id: str
    version: int
    signed: bytes
    tag: bytes


def parse(text: str) -> PresentedKey | None:
    """Take `text` apart, or answer None when it does not have the form of a key."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    signed, tag = text[len(PREFIX) : -_TAG_CHARS], text[-_TAG_CHARS:]
    return PresentedKey(
        id=match[1], version=int(text[len(PREFIX) : len(PREFIX) + 2], 16), signed=signed.encode(), tag=tag.encode()
    )


def id_of(text: str) -> str:
    """Where a key's text holds its id, whether or not it is a key."""
    return text[len(PREFIX) : len(PREFIX) + _ID_CHARS]


def read_id(text: str) -> KeyId | None:
    """Take a key's id apart, or answer None when it does not have the form of one."""
    if _ID.fullmatch(text) is None or not 1 <= int(text[34:36], 16) <= SLOTS:
        return None
    return KeyId(
        text=text, version=int(text[:2], 16), user_id=user_of(text), slot=int(text[34:36], 16), nonce=text[36:]
    )


def user_of(key_id: str) -> str:
    """The user that a key's id names."""
    return str(uuid.UUID(key_id[2:34]))


def is_user_id(text: str) -> bool:
    """Whether a text is a user's id in the one form that it has: only such a one stands in a key's id."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def make_id(version: int, user_id: str, slot: int, nonce: bytes) -> KeyId:
    """The id of a new key; `nonce` is NONCE_BYTES of fresh randomness."""
    text = f"{version:02x}{uuid.UUID(user_id).hex}{slot:02x}{nonce.hex()}"
    return KeyId(text=text, version=version, user_id=user_id, slot=slot, nonce=nonce.hex())


class _Hmac:
    """HMAC-SHA256 (RFC 2104), the key's two blocks hashed once: on every call, a quarter of hmac.digest's time."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def hexdigest(self, message: bytes) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()


class _Subkeys(msgspec.Struct, frozen=True):
    tag: _Hmac
    hash: _Hmac
    seal: _Hmac


def read_pepper(text: str) -> "Pepper":
    """A pepper as it is kept: a JSON object of versions, or one text, which is version 1. Raises ValueError.

    A secret of 64 hex digits stands for 32 bytes; any other text of at least 32 characters for itself.
    """
    try:
        said = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        said = {"1": text}
    if not isinstance(said, dict):
        said = {"1": text}
    versions = {int(version): _secret(secret) for version, secret in said.items()}
    if not versions or not all(0 < version < 256 for version in versions):
        raise ValueError("its versions must be from 1 to 255")
    return Pepper(versions)


def _secret(text: object) -> bytes:
    if not isinstance(text, str) or len(text) < PEPPER_CHARS:
        raise ValueError(f"each version must be a text of at least {PEPPER_CHARS} characters")
    return bytes.fromhex(text) if re.fullmatch(r"[0-9a-f]{64}", text) else text.encode()


class Pepper:
    """The deployment's secret, in versions (1 to 255, each at least 32 bytes); the newest one mints."""

    def __init__(self, versions: Mapping[int, bytes]) -> None:
        self.newest = max(versions)
        self._subkeys = {
            version: _Subkeys(**{use: _Hmac(_hkdf(secret, f"stile/{use}".encode())) for use in ("tag", "hash", "seal")})
            for version, secret in versions.items()
        }

    def __repr__(self) -> str:
        return "Pepper(***)"

    def mint(self, key_id: KeyId, randomness: bytes) -> str:
        """The plaintext of the key `key_id` with SECRET_BYTES of fresh randomness. It exists only in the answer."""
        signed = f"{key_id.text}-{_base62(int.from_bytes(randomness))}"
        return f"{PREFIX}{signed}{self._tag(key_id.version, signed.encode()).decode()}"

    def was_minted(self, key: PresentedKey) -> bool:
        """Whether this deployment made the key. Needs no directory."""
        return key.version in self._subkeys and hmac.compare_digest(self._tag(key.version, key.signed), key.tag)

    def digest(self, key: PresentedKey) -> str:
        """What a record keeps of the key: HMAC-SHA256 in hex."""
        return self._subkeys[key.version].hash.hexdigest(key.signed)

    def seal(self, user_id: str, attribute: str, value: str) -> str:
        """`value` with its seal at the end."""
        return f"{value}.{self.newest:02x}{self._seal(self.newest, user_id, attribute, value)}"

    def unseal(self, user_id: str, attribute: str, sealed: str) -> str | None:
        """The value, or None when the seal does not fit user, attribute and value."""
        value, _, end = sealed.rpartition(".")
        version = int(end[:2], 16) if re.fullmatch(rf"[0-9a-f]{{{_SEAL_CHARS + 2}}}", end) else 0
        if version not in self._subkeys:
            return None
        expected = self._seal(version, user_id, attribute, value)
        return value if hmac.compare_digest(expected, end[2:]) else None

    def _tag(self, version: int, signed: bytes) -> bytes:
        return self._subkeys[version].tag.hexdigest(signed)[:_TAG_CHARS].encode()

    def _seal(self, version: int, user_id: str, attribute: str, value: str) -> str:
        message = "\0".join((user_id, attribute, value)).encode()
        return self._subkeys[version].seal.hexdigest(message)[:_SEAL_CHARS]


def _hkdf(secret: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 with an empty salt and one 32-byte block: RFC 5869, sections 2.2 and 2.3."""
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _base62(number: int) -> str:
    digits = []
    for _ in range(_SECRET_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
