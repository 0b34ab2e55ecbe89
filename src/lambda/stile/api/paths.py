"""Paths with parameters: `{name}` stands for one segment, `{name:path}` for the rest, slashes and all."""

import re

_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


def pattern(template: str) -> re.Pattern[str]:
    """What matches the paths of `template`, a group for each parameter."""
    parts = _PARAMETER.split(template)  # text, name, kind, text, name, kind, …, text
    found = [re.escape(parts[0])]
    for name, kind, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        found.append(f"(?P<{name}>{'.+' if kind else '[^/]+'}){re.escape(text)}")
    return re.compile("".join(found))
