"""`stile chat`: one question, or a conversation; the answer is shown as it comes. Nothing of it is kept."""

import contextlib
import sys
from pathlib import Path

import click

from stile_cli import output
from stile_cli.failures import Failure, WrongUse
from stile_cli.session import Record, Session, common, pass_session

_HELP = "/model NAME  use another model\n/clear       begin anew\n/exit        leave (or Ctrl-D)"


@click.command()
@click.argument("prompt", required=False)
@click.option("--model", "-m", metavar="NAME", help="The model; by default the profile's, or the only one.")
@click.option("--system", "-s", metavar="TEXT", help="What the model shall know beforehand.")
@click.option(
    "--file",
    "-f",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A text to send along.",
)
@common
@pass_session
def chat(session: Session, prompt: str | None, model: str | None, system: str | None, files: tuple[Path, ...]) -> None:
    """Ask a model one thing, or talk with it.

    Without a prompt, in a terminal, it is a conversation. What is piped in is sent along.

    \b
    stile chat "Hello" --model echo
    git diff | stile chat "Write a commit message" --model gpt-5
    stile chat --model gpt-5 --file notes.md "What is missing?"
    """
    interactive = prompt is None and sys.stdin.isatty() and not session.json
    messages: list[Record] = [{"role": "system", "content": system}] if system else []
    attached = "".join(f"{_text_of(file)}\n\n" for file in files)
    wanted = model or session.profile.model or _only_model(session)
    if interactive:
        _talk(session, wanted, messages, attached)
        return
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    said = "\n\n".join(part for part in (attached.strip(), piped.strip(), prompt or "") if part)
    if not said:
        raise WrongUse("There is nothing to ask.", "Give a prompt, or pipe one in.")
    messages.append({"role": "user", "content": said})
    if session.json:
        output.put_json(session.gateway.post("/v1/chat/completions", {"model": wanted, "messages": messages}))
    else:
        _answer(session, wanted, messages)


def _talk(session: Session, model: str, messages: list[Record], attached: str) -> None:
    with contextlib.suppress(ImportError):  # lines can be edited where there is one; nothing is kept on disk
        import readline  # noqa: F401
    output.tell(f"{model} at {session.profile.url}. /help shows what else there is.")
    system = list(messages)
    while True:
        try:
            said = input("> ").strip()
            command, _, rest = said.partition(" ")
            if command == "/exit":
                return
            if command == "/clear":
                messages[:] = system
            elif command == "/model" and rest:
                model = rest.strip()
            elif said.startswith("/"):
                output.tell(_HELP)
            elif said:
                asked = {"role": "user", "content": f"{attached}{said}"}
                answer = _answer(session, model, [*messages, asked])
                attached = ""
                messages += [asked, {"role": "assistant", "content": answer}]
        except EOFError:
            output.tell("")
            return
        except KeyboardInterrupt:
            output.tell("\nStopped.")
        except Failure as failure:
            output.tell(f"stile: {failure}")


def _answer(session: Session, model: str, messages: list[Record]) -> str:
    """The answer, shown as it comes."""
    said = []
    body = {"model": model, "messages": messages, "stream": True}
    for event in session.gateway.events("/v1/chat/completions", body):
        for choice in event.get("choices", []):
            if piece := (choice.get("delta") or {}).get("content"):
                said.append(piece)
                click.echo(output.plain(piece), nl=False)
    click.echo()
    return "".join(said)


def _only_model(session: Session) -> str:
    """The model, where there is no choice. `echo` is none when there is another."""
    known = [model["id"] for model in session.gateway.get("/v1/models")["data"]]
    real = [name for name in known if name != "echo"] or known
    if len(real) == 1:
        return str(real[0])
    some = f" There are {', '.join(real[:5])}{' …' if len(real) > 5 else ''}." if real else ""
    raise WrongUse(f"Which model?{some}", "Give --model, or keep one: 'stile login --model NAME'.")


def _text_of(file: Path) -> str:
    try:
        return f"{file.name}:\n\n{file.read_text(encoding='utf-8')}"
    except (OSError, UnicodeDecodeError) as fault:
        raise WrongUse(f"{file} is no text that can be read.", "Only texts can be sent along.") from fault
