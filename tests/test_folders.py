"""Folders are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgepose.folders import whole_folder


def write(folder: Path, text: str) -> None:
    with whole_folder(folder) as inside:
        for name in ("a", "b"):
            (inside / name).write_text(text)


def read(folder: Path) -> tuple[str, str]:
    return (folder / "a").read_text(), (folder / "b").read_text()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_appears_and_is_replaced(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path / "f", text)
        assert read(tmp_path / "f") == (text, text)
        assert names(tmp_path) == ["f"]


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    write(tmp_path / "f", "one")

    def fail() -> None:
        with whole_folder(tmp_path / "f") as inside:
            (inside / "a").write_text("two")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert read(tmp_path / "f") == ("one", "one")
    assert names(tmp_path) == ["f"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from edgepose.folders import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as inside:\n"
        "    (inside / 'a').write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for name in ("f", "g"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    left_of_f, left_of_g = sorted(tmp_path.iterdir())
    mine = [".f.part", ".f.1-12345678.party", ".f.x-12345678.part", "f.1-12345678.part"]
    for name in mine:
        (tmp_path / name).mkdir()
    (tmp_path / ".f.7-12345678.part").write_text("a file of that name")
    write(tmp_path / "f", "one")
    assert not left_of_f.exists()
    assert names(tmp_path) == sorted(["f", left_of_g.name, ".f.7-12345678.part", *mine])


def test_two_that_write_the_same_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "f") as slow:
        (slow / "a").write_text("slow")
        (slow / "b").write_text("slow")
        write(tmp_path / "f", "quick")
        assert read(tmp_path / "f") == ("quick", "quick")
    assert read(tmp_path / "f") == ("slow", "slow")
    assert names(tmp_path) == ["f"]


def test_many_that_write_the_same_folder_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(20):
                write(tmp_path / "f", str(number))
        except BaseException as error:
            failures.append(error)

    write(tmp_path / "f", "first")
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    first, second = read(tmp_path / "f")
    assert first == second
    assert names(tmp_path) == ["f"]


def test_a_folder_that_is_replaced_is_never_absent(tmp_path: Path) -> None:
    if subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True).stdout.strip() not in (
        "ext2/ext3", "xfs", "btrfs", "tmpfs",
    ):  # fmt: skip
        pytest.skip("this file system may not be able to exchange two names")
    write(tmp_path / "f", "0")
    absent, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not os.path.lexists(tmp_path / "f"):
                absent.append(1)

    thread = threading.Thread(target=watch)
    thread.start()
    for number in range(200):
        write(tmp_path / "f", str(number))
    done.set()
    thread.join()
    assert not absent


def test_the_longest_name_that_a_file_system_takes(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        write(tmp_path / name, "one")
        write(tmp_path / name, "two")
        assert read(tmp_path / name) == ("two", "two")
    assert len(names(tmp_path)) == 2


def test_a_place_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write(tmp_path / "no" / "f", "one")
