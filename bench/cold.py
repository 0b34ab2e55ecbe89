"""`python -m bench.cold [--rounds N] [--json FILE]`: what a cold start costs, and what a warm invocation adds.

The built artifact is started as Lambda starts it and served by an emulator of the Runtime API; LiteLLM's proxy is
started beside it in each round. doc/benchmark.md says how to read the table.
"""

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.mocks import anthropic, openai, provider, runtime_api
from tests.mocks.runtime_api import RuntimeApi
from tests.mocks.runtime_invocation import Invocation

from bench import cold_table, functions, servers
from bench.cold_table import Figures
from bench.functions import MODELS, Place
from bench.machine import cores, description, peak
from bench.streams import Bed

RESULTS = pathlib.Path(__file__).parent / "results"
ROUNDS = 7
_WARM_INVOCATIONS = 50  # of each kind, in each round
_WARM_UP = 5  # more, which do not count: they connect
_HEALTH = functions.event("GET", "/health", {})


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all rounds share."""

    place: Place
    upstream: openai.Upstream
    core: int

    def steps(self) -> list[Callable[[], Mapping[str, float]]]:
        return [self.ready, *(self.starts(model) for model in MODELS), *(self.restores(model) for model in MODELS), self.litellm, self.warm]
