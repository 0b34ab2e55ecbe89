"""What can go wrong, as one tree; each failure is one line that says what, one that says what next, and an exit code.

Failure                1  the gateway failed, or something else did
├── WrongUse           2  the command, or a value in it, is wrong
│   └── BrokenProfiles 2  the file of profiles cannot be read
├── NotAllowed         3  the key is not taken (401), or may not do this (403)
├── NotFound           4  there is no such user, key or model (404)
├── Refused            5  a limit has been reached (429, or no room for another key)
├── Unreachable        6  there is no way to the gateway
└── NoGateway          7  what answers there is no Stile gateway
"""


class Failure(Exception):
    """`str` says what went wrong; `advice`, what to do next; `request_id`, how the gateway's log knows the call."""

    exit_code = 1

    def __init__(self, message: str, advice: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.advice = advice
        self.request_id = request_id


class WrongUse(Failure):
    exit_code = 2


class BrokenProfiles(WrongUse):
    pass


class NotAllowed(Failure):
    exit_code = 3


class NotFound(Failure):
    exit_code = 4


class Refused(Failure):
    exit_code = 5


class Unreachable(Failure):
    exit_code = 6


class NoGateway(Failure):
    exit_code = 7
