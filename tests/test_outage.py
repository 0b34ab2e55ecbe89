"""The outage game: providers fail in every way they know while calls are made, and the promises of routing are held
against what the providers saw.

- A call is answered once: with one provider's words, whole, or begun and then an error; and nobody was asked after that
  provider had begun.
- No call is lost that some target could have served, in whatever order the targets are tried.
- What a call is told (status, error, number of attempts) is what happened.

The machine plays a short game here, and a long one in e2e/test_outage_long.py.
"""

import concurrent.futures
import contextlib
import json
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from tests import leaks, program
from tests.mocks import outage
from tests.mocks.outage import Mode, Outage, Seen, error
from tests.program import Answer, Program, wait_for

NAMES = ("alpha", "beta", "gamma")
NOWHERE = "nowhere"
SECONDS = 1.0  # time-outs: more than a busy machine ever stands still, and short enough to wait for
MOST_ATTEMPTS = 12

WRONG_CALL = error(400)
REFUSALS = (outage.CONTEXT_LENGTH, outage.CONTENT_FILTER)
GOOD = (outage.OK, outage.CLOSES)
# With these a stream has begun before it fails, so that nothing can follow.
BEGIN = (outage.CUT_IN_BODY, outage.RESET_IN_BODY, outage.STALL_IN_BODY)
STALLS = (outage.HALF_OPEN, outage.STALL_AFTER_HEAD, outage.COMMENT_THEN_STALL)
FAILING = (
    *(error(status) for status in (401, 403, 404, 408, 500, 502, 503, 529)),
    outage.rate_limited(),
    outage.rate_limited(retry_after_ms="20"),
    outage.rate_limited(retry_after="60"),
    *outage.ENDS_BEFORE_AN_ANSWER,
    outage.REFUSES,
)
OTHERS = (*BEGIN, *STALLS, *REFUSALS, WRONG_CALL)
MODES = st.one_of(*map(st.sampled_from, (GOOD, FAILING, FAILING, OTHERS)))
CALL = st.tuples(st.integers(0, 2), st.booleans())  # which model, and whether it streams

Modes = Mapping[str, Collection[Mode]]


@dataclass
class Made:
    """A call that was made: what was asked for, and what the providers may have been meanwhile."""

    model: str
    stream: bool
    marker: str
    answer: Answer
    modes: Modes

    def __str__(self) -> str:
        return f"{self.marker} to {self.model}, stream={self.stream}: {self.answer.status} {self.answer.body!r}"


@dataclass
class House:
    """A gateway's models and where a call to them may lead."""

    models: Mapping[str, Sequence[str]]  # each with its targets
    special: Mapping[str, str]  # model → where refusals go, instead of to the models after it
    num_retries: int

    def chain(self, model: str) -> list[str]:
        """The model and its fallbacks: those that come after it."""
        names = list(self.models)
        return names[names.index(model) :]

    def can_be_unseen(self, model: str, modes: Modes) -> bool:
        """Whether an attempt may have reached no provider."""
        reached = {name for one in self.chain(model) for name in self.models[one]}
        return NOWHERE in reached or any(outage.REFUSES in modes[name] for name in reached)

    def must_serve(self, model: str, stream: bool, modes: Modes) -> bool:
        """Whether a call is served in whatever order a model's targets are tried."""
        names = [name for name in self.models[model] if name != NOWHERE]
        ends = {WRONG_CALL, *(BEGIN if stream else ())}
        if any(ends & set(modes[name]) for name in names):
            return False
        ways = []
        enough = self.num_retries + 1 >= len(self.models[model])
        if not enough or not any(set(modes[name]) <= set(GOOD) for name in names):
            ways.append(self.chain(model)[1:2])
        if any(set(REFUSALS) & set(modes[name]) for name in names):
            ways.append([self.special[model]] if model in self.special else self.chain(model)[1:2])
        return all(way and self.must_serve(way[0], stream, modes) for way in ways)


class OutageGame(RuleBasedStateMachine):
    """Three providers and a gateway with up to three models, each the fallback of the one before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.providers: list[Outage] = self.stack.enter_context(outage.running(*NAMES))
        self.threads = self.stack.enter_context(concurrent.futures.ThreadPoolExecutor(6))
        self.gateway: Program
        self.house: House

    def teardown(self) -> None:
        self.stack.close()

    @initialize(
        groups=st.lists(
            st.lists(st.sampled_from([*NAMES, NOWHERE]), min_size=1, max_size=3, unique=True), min_size=1, max_size=3
        ),
        ordered=st.booleans(),
        special=st.booleans(),
        num_retries=st.sampled_from((2, 2, 1, 0)),
        allowed_fails=st.integers(1, 3),
    )
    def begin(
        self, *, groups: list[list[str]], ordered: bool, special: bool, num_retries: int, allowed_fails: int
    ) -> None:
        models = {f"m{number}": group for number, group in enumerate(groups)}
        names = list(models)
        # Past the next model, so that it can be told from the general fallback.
        leaps = {name: names[number + 2] for number, name in enumerate(names[:-2])} if special else {}
        self.house = House(models, leaps, num_retries)
        text = outage.model_file(
            {
                name: [self.target(name, one, number, ordered) for number, one in enumerate(group)]
                for name, group in models.items()
            },
            num_retries=num_retries,
            allowed_fails=allowed_fails,
            cooldown_time=0.2,
            retry_after=0,
            timeout=SECONDS,
            stream_timeout=SECONDS,
            fallbacks=[{name: [names[number + 1]]} for number, name in enumerate(names[:-1])],
            context_window_fallbacks=[{name: [to]} for name, to in leaps.items()],
            content_policy_fallbacks=[{name: [to]} for name, to in leaps.items()],
        )
        folder = Path(tempfile.mkdtemp(dir=leaks.folder()))
        (folder / "config.yaml").write_text(text)
        self.gateway = self.stack.enter_context(
            program.running(folder, STILE_CONFIG=str(folder / "config.yaml"), STILE_TIMEOUT_SECONDS="25")
        )

    def target(self, model: str, name: str, place: int, ordered: bool) -> dict[str, Any]:
        more: dict[str, Any] = {"model": f"openai/{name}-{model}", **({"order": place} if ordered else {})}
        if name == NOWHERE:
            return outage.nowhere(**more)
        return self.providers[NAMES.index(name)].target(**more)

    @property
    def modes(self) -> dict[str, list[Mode]]:
        return {provider.name: [provider.mode] for provider in self.providers}

    # --- what may happen ---

    @rule(
        modes=st.none() | st.tuples(MODES, MODES, MODES),
        kept=st.booleans(),
        cool=st.booleans(),
        calls=st.lists(CALL, min_size=1, max_size=6),
    )
    def calls_at_once(
        self, modes: tuple[Mode, ...] | None, kept: bool, cool: bool, calls: list[tuple[int, bool]]
    ) -> None:
        """Calls to providers that are as they were or have changed, with old connections or new ones."""
        for provider, mode in zip(self.providers, modes or (), strict=False):
            provider.become(mode)
        for provider in self.providers if not kept else ():
            provider.hang_up()
        if cool:
            wait_for(lambda: not any(self.cooling()), "the targets to be cool")
        self.check_all([self.threads.submit(self.make, number, stream, self.modes) for number, stream in calls])

    @rule(held=st.integers(0, 2), changed=st.integers(0, 2), mode=MODES, calls=st.lists(CALL, min_size=1, max_size=3))
    def calls_while_a_provider_changes(
        self, held: int, changed: int, mode: Mode, calls: list[tuple[int, bool]]
    ) -> None:
        """One provider holds its answers back, then another one, or itself, changes."""
        holder, changer = self.providers[held], self.providers[changed]
        holder.become(outage.GATED)
        modes = self.modes
        modes[changer.name].append(mode)
        seen = len(holder.seen)
        made = [self.threads.submit(self.make, number, stream, modes) for number, stream in calls]
        wait_for(lambda: len(holder.seen) > seen or all(one.done() for one in made), "a call to be held or all to end")
        changer.become(mode)
        holder.open()
        self.check_all(made)
        holder.heal()

    # --- what must hold ---

    def make(self, number: int, stream: bool, modes: Modes) -> Made:
        names = list(self.house.models)
        model, marker = names[number % len(names)], outage.marker()
        body: dict[str, Any] = {"model": model, "messages": outage.marked(marker), "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}  # else the gateway would hold that event back
        return Made(model, stream, marker, self.gateway.ask("POST", "/v1/chat/completions", body), modes)

    def check_all(self, made: Sequence[concurrent.futures.Future[Made]]) -> None:
        for one in made:
            self.check(one.result())

    def check(self, made: Made) -> None:
        trail = outage.trail(self.providers, made.marker)
        story = f"{made} after {[(seen.provider, seen.model, seen.mode, seen.end) for seen in trail]}"
        self.check_attempts(made, trail, story)
        assert not any(seen.status == 200 and seen.end == "whole" for seen in trail[:-1]), story
        assert not any(seen.mode == WRONG_CALL.name for seen in trail[:-1]), story
        if made.answer.status != 200:
            self.check_error(made, trail, story)
        elif made.stream and not made.answer.body.endswith(b"data: [DONE]\n\n"):
            check_broken_stream(made, trail, story)
        else:
            (served,) = [seen for seen in trail if seen.end == "whole" and seen.status == 200]
            assert served is trail[-1], story
            assert made.answer.body == served.sent, story
            return
        assert not self.house.must_serve(made.model, made.stream, made.modes), story

    def check_attempts(self, made: Made, trail: Sequence[Seen], story: str) -> None:
        told = int(made.answer.headers["x-stile-attempts"])
        sent = sum(not seen.unread for seen in trail)
        # A reset can overtake the head that was sent before it: then it looks like a dead connection, too.
        doubtful = sum(seen.kept and seen.mode.startswith("reset") and seen.status > 0 for seen in trail)
        most = MOST_ATTEMPTS if self.house.can_be_unseen(made.model, made.modes) else sent
        assert sent - doubtful <= told <= most, story
        each = self.house.num_retries + 1
        for model in self.house.models:
            assert sum(seen.model.endswith(f"-{model}") and not seen.unread for seen in trail) <= each + doubtful, story
        line = self.gateway.line_of(made.answer.headers["x-request-id"])
        assert (line["attempts"], line["target"]) == (told, made.answer.headers["x-stile-target"]), story

    def check_error(self, made: Made, trail: Sequence[Seen], story: str) -> None:
        fault = made.answer.error
        assert isinstance(fault["message"], str), story
        assert {"type", "code"} <= fault.keys(), story
        assert not any(seen.end == "whole" and seen.status == 200 for seen in trail), story
        # A name's look-up may outlast the attempt on a busy machine.
        possible = {502, 504} if self.house.can_be_unseen(made.model, made.modes) else set()
        if trail:
            last = trail[-1]
            # Who was left may not have noticed yet.
            possible |= {last.status} if last.end == "whole" else {502 if last.end == "broken" else 504}
        assert made.answer.status in possible, story

    def cooling(self) -> Iterator[str]:
        """The targets that are going to be ok again soon; on the way, what is shown of all of them is checked."""
        soon = time.time() + 5
        shown = {one["id"]: one["targets"] for one in self.gateway.ask("GET", "/api/models").json["data"]}
        for model, names in self.house.models.items():
            targets = shown[model]
            assert [target["target"] for target in targets] == [f"openai/{name}-{model}" for name in names]
            for target in targets:
                assert (target["state"] == "cooling") is (target["until"] is not None)
                if target["state"] == "cooling" and target["until"] < soon:
                    yield target["target"]


def check_broken_stream(made: Made, trail: Sequence[Seen], story: str) -> None:
    """A stream that has begun and could not go on: the last one's words, then the error."""
    assert trail[-1].mode in map(repr, BEGIN), story
    begun, _, last = made.answer.body.removesuffix(b"\n\n").rpartition(b"\n\n")
    assert trail[-1].sent.startswith(begun), story
    assert set(json.loads(last.removeprefix(b"data: "))) == {"error"}, story
    assert not any(seen.end == "whole" and seen.status == 200 for seen in trail), story


def play(games: int, steps: int) -> None:
    """A game that fails is told as it was played: to look for a shorter one would take minutes."""
    profile = settings(
        max_examples=games,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        print_blob=True,
    )
    run_state_machine_as_test(OutageGame, settings=profile)


def test_no_call_is_lost_or_answered_twice() -> None:
    play(games=12, steps=7)
