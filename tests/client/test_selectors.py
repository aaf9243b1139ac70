"""Which selector is asked: the given ones, and then those that the federation told of."""

from __future__ import annotations

from client.selectors import TARGETS_MAX, TRIES_AT_ONE_SELECTOR, Selectors


def fail(selectors: Selectors) -> str:
    """Try one selector until it is given up; return the next one."""
    for _ in range(TRIES_AT_ONE_SELECTOR):
        selectors.failed()
    return selectors.target


def test_selector_does_not_answer_the_next_of_the_list_is_asked() -> None:
    """And in the end the first one again."""
    selectors = Selectors(["a:1", "b:1"], 10.0, 5.0)

    assert [fail(selectors), fail(selectors)] == ["b:1", "a:1"]


def test_selectors_that_were_told_of_are_asked_after_those_that_were_given() -> None:
    """Once each, however often they are told of."""
    selectors = Selectors(["a:1", "b:1"], 10.0, 5.0)
    for _ in range(2):
        selectors.learn(["c:1", "a:1"])

    assert [fail(selectors) for _ in range(3)] == ["b:1", "c:1", "a:1"]


def test_only_selector_does_not_answer_it_is_asked_again_until_another_is_known() -> None:
    """It may be back in a moment."""
    selectors = Selectors(["a:1"], 10.0, 5.0)
    assert fail(selectors) == "a:1"

    selectors.learn(["b:1"])

    assert fail(selectors) == "b:1"


def test_selector_tells_of_no_end_of_others_the_client_remembers_some() -> None:
    """A limit on everything that grows."""
    selectors = Selectors(["a:1"], 10.0, 5.0)

    selectors.learn(f"other-{n}:1" for n in range(1_000))

    assert len(selectors.known) == TARGETS_MAX
