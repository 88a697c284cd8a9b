from hypothesis import given
from hypothesis import strategies as st

from flight_server.domain.recent import RecentMap

SIZE = 10


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 12)), max_size=50))
def test_what_is_kept_was_put_last_and_weighs_no_more_than_the_size(puts: list[tuple[str, int]]) -> None:
    recent: RecentMap[str, int] = RecentMap(SIZE)
    for at, (key, weight) in enumerate(puts):
        recent.put(key, at, weight)
    newest = {key: (at, weight) for at, (key, weight) in enumerate(puts)}
    kept = {key for key in newest if recent.get(key) is not None}
    assert sum(newest[key][1] for key in kept) <= SIZE
    assert all(recent.get(key) == newest[key][0] for key in kept)
    dropped = [newest[key][0] for key in newest.keys() - kept]
    assert max(dropped, default=-1) < min((newest[key][0] for key in kept), default=len(puts))
