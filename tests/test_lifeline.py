"""Child processes that end with us."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgepose.lifeline import Child, run


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether the process ends within the time; a zombie has ended."""
    end = time.monotonic() + seconds
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.01)


def test_exit_code_and_what_it_wrote() -> None:
    code, said = run([sys.executable, "-c", "import sys; print('out'); sys.stderr.write('err'); sys.exit(7)"])
    assert code == 7
    assert {"out", "err"} <= set(said.replace("err", " err ").split())


def test_a_program_that_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    code, _ = run([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.3)
    assert code is None
    assert time.monotonic() - started < 10


def test_a_program_that_is_not_there_is_named() -> None:
    code, said = run(["/nonexistent/program"])
    assert code == 1
    assert "Cannot run /nonexistent/program" in said


def test_it_runs_in_its_folder_with_its_environment(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.getcwd(), os.environ['WORD'])"]
    code, said = run(command, {**os.environ, "WORD": "here"}, folder=tmp_path)
    assert (code, said.split()) == (0, [str(tmp_path), "here"])


def test_a_child_is_talked_with() -> None:
    child = Child([sys.executable, "-c", "import sys; print(sys.stdin.readline().upper())"], talks=True)
    child.requests.write(b"word\n")
    child.requests.flush()
    assert child.replies.readline() == b"WORD\n"
    child.close()
    assert gone(child.pid, 0)
    child.close()


def test_a_child_that_nobody_holds_ends() -> None:
    child = Child(["sleep", "60"])
    pid = child.pid
    assert not gone(pid, 0.2)
    del child
    gc.collect()
    assert gone(pid)


def test_a_child_outlives_the_thread_that_started_it() -> None:
    children: list[Child] = []
    thread = threading.Thread(target=lambda: children.append(Child(["sleep", "60"])))
    thread.start()
    thread.join()
    assert not gone(children[0].pid, 0.3)
    children[0].close()


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.02, 0.05, 0.3])
def test_killing_us_at_any_moment_leaves_no_child(moment: float) -> None:
    code = (
        "import time\n"
        "from edgepose.lifeline import Child\n"
        "child = Child(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(moment)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(child)
