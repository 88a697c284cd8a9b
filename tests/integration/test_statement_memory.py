"""How much memory the groups of one statement may have."""

from pathlib import Path

from flight_server.engine.instance import Instance, InstanceOptions

MIB = 1 << 20
GROUPS = "SELECT count(*) FROM (SELECT i, count(*) FROM range(300_000) t(i) GROUP BY i)"


def test_a_cursor_can_be_bound_although_the_instance_is_locked(tmp_path: Path) -> None:
    instance = Instance(InstanceOptions(1024 * MIB, 1024 * MIB, 2, tmp_path, (tmp_path,), 16 * MIB))
    with instance.cursor() as cursor:
        instance.bound(cursor)
        found = cursor.execute("SELECT current_setting('operator_memory_limit')").fetchall()
        assert found == [("16.0 MiB",)]
        assert cursor.execute(GROUPS).fetchall() == [(300_000,)]
    instance.close()
