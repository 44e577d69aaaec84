"""Every statement of every contract runs in the tests of this folder, and every refusal happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contracts import lines
from tests.contracts.network import ROOT

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["bonds", "vault", "council", "tokens/test_dollar"])
def test_every_line_ran_and_every_refusal_happened(
    request: pytest.FixtureRequest, name: str
) -> None:
    collected = {item.path for item in request.session.items}
    narrowed = request.config.option.keyword or request.config.option.markexpr
    if narrowed or not collected.issuperset(HERE.glob("test_*.py")):
        pytest.skip("tells something only after all tests of this folder")
    missing = lines.places(f"contracts/{name}.vy") - lines.ran
    told = [
        f"{path}:{line} never {what}: {(ROOT / path).read_text().splitlines()[line - 1].strip()}"
        for path, line, what in sorted(missing)
    ]
    assert not told, "\n".join(told)
