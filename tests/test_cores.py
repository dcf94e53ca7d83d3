"""Cores: as many as this process may use at once, by its affinity and by the quotas of the containers around it."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isoflop.launch import _cgroups, _cores, cores

CODE = "from isoflop.launch import cores; print(cores())"


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups as files, for a process that is in `/a/b` of version 2, and in `/c` of version 1."""
    monkeypatch.setattr(_cgroups, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(_cgroups, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(_cores, "_allowed", lambda: 64)
    (tmp_path / "membership").write_text("7:cpu,cpuacct:/c\n3:memory:/m\n0::/a/b\n")

    def write(**files: str) -> int:
        for name, text in files.items():
            path = tmp_path / "cgroup" / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cores()

    return write


def test_without_a_quota_the_affinity_counts(groups):
    assert groups(a__b__cpu_DOT_max="max 100000\n", cpu__c__cpu_DOT_cfs_quota_us="-1\n", cpu__c__cpu_DOT_cfs_period_us="100000\n") == 64


def test_the_least_quota_of_the_groups_around_counts(groups):
    assert groups(a__b__cpu_DOT_max="800000 100000\n") == 8
    assert groups(a__cpu_DOT_max="300000 100000\n") == 3
    assert groups(cpu_DOT_max="max 100000\n") == 3
    assert groups(cpu__c__cpu_DOT_cfs_quota_us="100000\n", cpu__c__cpu_DOT_cfs_period_us="50000\n") == 2
    assert groups(cpu__cpu_DOT_cfs_quota_us="50000\n", cpu__cpu_DOT_cfs_period_us="50000\n") == 1


@pytest.mark.parametrize(("quota", "found"), [("150000 100000", 2), ("50000 100000", 1), ("1000 1000000", 1), ("100000 0", 64), ("rubbish", 64), ("", 64)])
def test_a_part_of_a_core_counts_as_one_and_rubbish_as_no_limit(groups, quota, found):
    assert groups(a__b__cpu_DOT_max=quota) == found


def test_groups_of_version_1_that_share_a_mount_are_found(groups):
    assert groups(**{"cpu,cpuacct__c__cpu_DOT_cfs_quota_us": "200000\n", "cpu,cpuacct__c__cpu_DOT_cfs_period_us": "100000\n"}) == 2


def test_a_container_whose_own_group_is_the_root_is_seen(groups, tmp_path):
    (tmp_path / "membership").write_text("0::/kubepods/not-visible-here\n")
    assert groups(cpu_DOT_max="400000 100000\n") == 4


@pytest.mark.usefixtures("groups")
def test_where_linux_says_nothing_the_affinity_counts(tmp_path):
    (tmp_path / "membership").unlink()
    assert cores() == 64


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone has affinities")
def test_the_affinity_of_a_real_process_counts():
    one = str(min(os.sched_getaffinity(0)))
    assert subprocess.run(["taskset", "-c", one, sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout == "1\n"


def test_a_real_quota_counts():
    folder = Path("/sys/fs/cgroup/cpu", f"isoflop-test-{os.getpid()}")
    try:
        (folder / "inner").mkdir(parents=True)
        (folder / "cpu.cfs_quota_us").write_text("100000")
    except OSError as refused:
        with contextlib.suppress(OSError):
            (folder / "inner").rmdir()
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no CPU group (cgroup v1) of our own to be had here: {refused}")
    try:
        enter = f'echo $$ > {folder}/inner/cgroup.procs; exec "$@"'
        done = subprocess.run(["bash", "-c", enter, "-", sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    finally:
        (folder / "inner").rmdir()
        folder.rmdir()
    assert done.stdout == "1\n"
