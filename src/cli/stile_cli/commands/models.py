"""`stile models`: what can be called, and whether it answers."""

import time

import click

from stile_cli import output
from stile_cli.session import Record, Session, common, pass_session


@click.group()
def models() -> None:
    """Models that can be called with the key."""


@models.command("list")
@common
@pass_session
def list_(session: Session) -> None:
    """List the models that the key may use, and how their targets are."""
    answer = session.gateway.get("/api/models")
    if session.json:
        output.put_json(answer)
        return
    rows = [[model["id"], _targets(model), ", ".join(model["fallbacks"]) or "-"] for model in answer["data"]]
    output.table(("model", "targets", "fallbacks"), rows, "This key may use no model.")


@models.command()
@click.argument("model")
@common
@pass_session
def test(session: Session, model: str) -> None:
    """Ask a model for one word, and show how long it took.

    \b
    stile models test echo
    """
    body = {"model": model, "messages": [{"role": "user", "content": "Say ok."}]}
    began = time.monotonic()
    answer = session.gateway.post("/v1/chat/completions", body)
    if session.json:
        output.put_json(answer)
        return
    said = answer["choices"][0]["message"].get("content") or ""
    output.put(f"{model} answers in {time.monotonic() - began:.2f} s: {said[:200]}")


def _targets(model: Record) -> str:
    return ", ".join(
        f"{target['target']}{'' if target['state'] == 'ok' else ' (cooling)'}" for target in model["targets"]
    )
