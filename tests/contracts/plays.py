"""Playing a state machine until it has shown what it is for.

What hypothesis draws depends, even without randomness, on which modules are loaded and on the
numbers in them, so a fixed count of plays may turn tame when a test elsewhere changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine


def played(
    machine: type[RuleBasedStateMachine],
    done: Callable[[], bool],
    *,
    examples: int,
    steps: int,
    **more: Any,
) -> bool:
    """Play so many games; while not ``done``, begin anew with twice as many, four times at most."""
    for doubling in range(5):
        case: Any = machine.TestCase
        case.settings = settings(
            max_examples=examples << doubling,
            stateful_step_count=steps,
            phases=[Phase.generate],
            **more,
        )
        case("runTest").runTest()
        if done():
            return True
    return False
