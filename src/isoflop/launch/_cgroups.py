"""Control groups: the folders in which Linux keeps the limits of this process and of the groups around it."""

from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


def folders(controller: str) -> Iterator[tuple[int, Path]]:
    """Return the folders of this process's group and of those around it, each with the version of its interface, 1 or 2.

    In a container, whose own group is mounted as the root, some of them do not exist.

    Args:
        controller: Such as "cpu" or "memory".
    """
    try:
        lines = MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            yield from ((2, folder) for folder in _upwards(ROOT, place))
        elif controller in controllers.split(","):
            mounted = ROOT / controllers if (ROOT / controllers).is_dir() else ROOT / controller  # "cpu,cpuacct" is often one
            yield from ((1, folder) for folder in _upwards(mounted, place))


def numbers(path: Path) -> list[float | None]:
    """Return the numbers in a file, None for "max"; an empty list where there is no such file."""
    try:
        return [None if word == "max" else float(word) for word in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []


def _upwards(root: Path, place: str) -> Iterator[Path]:
    here = root / place.lstrip("/")
    for folder in (here, *here.parents):
        yield folder
        if folder == root:
            return
