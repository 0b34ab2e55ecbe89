"""The story of the first admin: a one-time token, whose hash was deployed, becomes an admin and a key.

Each deployed hash works exactly once. The latch is a name that the directory gives away once and for all. It is taken
when all that could be refused has been looked at, and before anything is granted. Deploying another hash opens it once
more: the way back for a team that lost its admin key.
"""

import hashlib
import hmac

from stile import changes
from stile.changes import Audit
from stile.core.records import ADMIN_SCOPES, Entry
from stile.core.rights import Author
from stile.entries import ROLE
from stile.errors import Conflict, EmailTaken, Forbidden, Rejected
from stile.keyring import KeyFields, Keyring, NewKey, free_slots
from stile.ports import Directory
from stile.users import UserFields, Users

MIN_TOKEN = 64  # hex characters: 256 bits
_LATCH = "stile-bootstrap-"


class Bootstrap:
    """Makes the first admin. `sha256`: of the token that may do it, in hex; None: nobody may."""

    def __init__(
        self, directory: Directory, users: Users, keyring: Keyring, *, sha256: str | None, audit: Audit
    ) -> None:
        self._directory = directory
        self._users = users
        self._keyring = keyring
        self._sha256 = sha256
        self._audit = audit

    async def open(self, token: str, email: str, request_id: str) -> tuple[Entry, NewKey]:
        """The admin and a key of all scopes. Raises Forbidden for a wrong token, Rejected for one that was used."""
        latch = self._latch(token)
        if await self._directory.claimed(latch):
            raise _used()
        by = Author(request_id=request_id)
        entry = await self._user(email)
        free_slots(entry)
        try:
            await self._directory.claim(latch)
        except Conflict:
            raise _used() from None
        # Role and key are one write: a token that is used up has always left both.
        besides = {ROLE: self._users.standing(entry, "admin")}
        made = await self._keyring.create(
            by, entry.user_id, KeyFields(name="first admin key", scopes=ADMIN_SCOPES), besides=besides
        )
        admin = await self._users.update(by, entry.user_id, UserFields(enabled=True))
        before, after = self._users.shown(entry), self._users.shown(admin)
        self._audit(changes.line(by, "user.bootstrap", entry.user_id, made.record.id, before=before, after=after))
        return admin, made

    def _latch(self, token: str) -> str:
        digest = hashlib.sha256(token.encode()).hexdigest()
        if self._sha256 is None:
            raise Forbidden(
                "The bootstrap is closed: no STILE_BOOTSTRAP_SHA256 is set. Deploy the SHA-256 of a token to open it.",
                code="bootstrap_closed",
            )
        if not hmac.compare_digest(digest, self._sha256):
            raise Forbidden("This is not the bootstrap token.", code="wrong_token")
        return f"{_LATCH}{digest}"

    async def _user(self, email: str) -> Entry:
        try:
            return await self._directory.create(email)
        except EmailTaken as taken:
            found = await self._directory.find(email)
            if found is None:
                raise taken
            return found


def _used() -> Rejected:
    return Rejected(
        "This bootstrap token was used already. Deploy the SHA-256 of another one to open the bootstrap once more.",
        code="bootstrap_used",
    )
