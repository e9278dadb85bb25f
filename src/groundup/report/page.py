"""A template and what it shows -> one self-contained HTML page.

Invariant: the page is one file that asks for nothing outside itself (its content security policy forbids it), and text
from data reaches it escaped: HTML by the template, control and bidi characters by `printable`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from groundup.errors import printable

HERE = Path(__file__).parent
STYLE = "page.css"


def rendered(template: str, content: Mapping[str, Any], script: str = "") -> str:
    """The page as text; `script`: a file of our own beside the templates, or none."""
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escape_invisible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (HERE / STYLE).read_text(encoding="utf-8")
    code = (HERE / script).read_text(encoding="utf-8") if script else ""
    return environment.get_template(template).render(
        policy=_policy(style, code),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(code),  # noqa: S704 - our own file
        **content,
    )


def _escape_invisible(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _policy(style: str, script: str) -> str:
    """Content security policy: this style and this script, nothing else, from nowhere else."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    scripts = f"'sha256-{hashes[1]}'" if script else "'none'"
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src {scripts}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
