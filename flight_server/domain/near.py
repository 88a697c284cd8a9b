"""What a message says of a name that there is not: names like it, or all that there are when they are few."""

import difflib
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence

_FEW = 20
"""Names that a message lists."""

_COMPARED = 200
"""Names that are compared with the one wanted: of more, those that begin or end most like it."""

_LONGEST = 1_000
"""Characters of what is compared: nothing that there is has a longer name, and comparing takes time."""

_SHOWN = 3


def all_seen(_name: str) -> bool:
    """Say of every name that its caller may know of it."""
    return True


def _beside(wanted: str, names: Iterable[str]) -> Sequence[str]:
    """Return the names that stand beside one in order."""
    ordered = sorted(names)
    at = bisect_left(ordered, wanted)
    return ordered[max(0, at - _COMPARED // 4) : at + _COMPARED // 4]


def _compared(wanted: str, names: Collection[str]) -> Iterable[str]:
    """Return the names that are worth comparing with one: comparing 5,000 would take 80 ms."""
    if len(names) <= _COMPARED:
        return names
    backwards = _beside(wanted[::-1], (name[::-1] for name in names))
    return dict.fromkeys([*_beside(wanted, names), *(name[::-1] for name in backwards)])


def near(wanted: str, names: Collection[str], is_seen: Callable[[str], bool] = all_seen) -> list[str]:
    """Return a few names like the one wanted, of those that its caller may know of."""
    if len(wanted) > _LONGEST:
        return []
    return difflib.get_close_matches(wanted, filter(is_seen, _compared(wanted, names)), _SHOWN)


def offer(
    wanted: str, names: Collection[str], what: str, is_seen: Callable[[str], bool] = all_seen, more: str = ""
) -> str:
    """Return the rest of a message about an unknown name: what it could be instead.

    `what` are the things, `more` where all are listed; names that the caller may not know of stay out.
    """
    if len(names) <= _COMPARED:
        seen = [name for name in names if is_seen(name)]
        if len(seen) <= _FEW:
            return f"the {what} here are: {', '.join(seen) or 'none'}"
    found = near(wanted, names, is_seen)
    hint = f"did you mean {' or '.join(found)}? " if found else ""
    return f"{hint}{more} lists the {what}"
