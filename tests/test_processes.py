"""Child processes: bounded in time, output and resources, and gone when they should be."""

import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import DMSIGN, noise, wait_until

from dmsign_fast import processes
from dmsign_fast.errors import ProgramError
from dmsign_fast.processes import Limits, run_program, withhold

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
LONG = 60


def sh(script, *arguments, timeout=LONG, **options):
    options.setdefault("environment", ENVIRONMENT)
    return run_program(["sh", "-c", script, "sh", *arguments], timeout=timeout, **options)


def alive(pid):
    """Whether it runs: a zombie waits only for whoever adopted it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def recorded(path):
    """The process id that a script wrote to a file with ``echo $$ > path.new; mv``."""
    wait_until(path.exists, f"{path.name} to appear")
    return int(path.read_text())


def test_out_err_and_exit_status_are_what_the_program_gave():
    done = sh("printf out; printf err >&2; exit 3")
    assert (done.exit_code, done.out, done.err, done.last_words) == (3, b"out", b"err", "err")
    assert 0 < done.seconds < LONG


def test_the_program_sees_its_environment_and_directory_only(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    done = run_program(
        ["env"], timeout=LONG, environment={"PATH": os.environ["PATH"], "ONE": "1"}, cwd=tmp_path
    )
    assert done.out.splitlines() == [f"PATH={os.environ['PATH']}".encode(), b"ONE=1"]
    assert sh("pwd -P", cwd=tmp_path).out.decode().strip() == str(tmp_path.resolve())


def test_the_program_is_looked_for_in_its_own_path(tmp_path):
    tool = tmp_path / "a-tool-of-ours"
    tool.write_text("#!/bin/sh\necho here\n")
    tool.chmod(0o755)
    done = run_program([tool.name], timeout=LONG, environment={"PATH": str(tmp_path)})
    assert done.out == b"here\n"


def test_stdin_is_empty_by_default():
    assert sh("wc -c").out.split() == [b"0"]
    assert sh("readlink /proc/self/fd/0").out == b"/dev/null\n"


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_large_input_and_output_pass_at_the_same_time(size):
    data = noise(size)
    done = sh("cat; echo end >&2", stdin=data, output_limit=size + 4)
    assert done.out == data
    assert done.err == b"end\n"


def test_input_need_not_be_read():
    assert sh("exec 0<&-; exit 7", stdin=bytes(1_000_000)).exit_code == 7
    assert sh("exit 7", stdin=bytes(1_000_000)).exit_code == 7


def test_output_may_end_before_the_program():
    assert sh("exec >&- 2>&-; sleep 0.2; exit 5").exit_code == 5


def test_descriptors_stay_here_but_for_those_that_are_passed(tmp_path):
    script = "for fd in /proc/self/fd/*; do readlink $fd; done; :"
    with (tmp_path / "kept").open("w") as kept, (tmp_path / "passed").open("w") as passed:
        os.set_inheritable(kept.fileno(), True)
        seen = sh(script, pass_fds=[passed.fileno()]).out.decode()
    assert str(tmp_path / "passed") in seen
    assert str(tmp_path / "kept") not in seen


@pytest.mark.parametrize("stream", ["standard output", "standard error"])
def test_a_flood_is_stopped(stream):
    redirect = "" if stream == "standard output" else "exec >&2;"
    with pytest.raises(ProgramError, match=f"wrote more than 100000 bytes to {stream}"):
        sh(f"{redirect} while :; do echo flood; done", output_limit=100_000)


@pytest.mark.parametrize("script", ["head -c 1000 /dev/zero", "head -c 1000 /dev/zero; sleep 0.1"])
def test_output_up_to_the_limit_is_no_flood(script):
    assert len(sh(script, output_limit=1000).out) == 1000
    with pytest.raises(ProgramError, match="more than 999 bytes"):
        sh(script, output_limit=999)


def test_a_limit_of_time_is_kept_and_the_last_words_told(tmp_path):
    path = tmp_path / "pid"
    with pytest.raises(ProgramError, match=r"tool did not end within 2 s.*said: still busy"):
        sh('echo $$ > "$1"; echo still busy >&2; sleep 600', path, timeout=2, name="tool")
    assert not alive(int(path.read_text()))


# Too much output is what stops a program at a known point of it.
STOP = {"output_limit": 10}
STOPPED = "head -c 100 /dev/zero; while :; do sleep 0.01; done"


def test_sigterm_comes_first(tmp_path):
    with pytest.raises(ProgramError, match="stopped"):
        sh(f"""trap 'echo tidy > "$1"; exit 0' TERM; {STOPPED}""", tmp_path / "tidied", **STOP)
    assert (tmp_path / "tidied").read_text() == "tidy\n"


def test_sigkill_comes_for_who_ignores_sigterm(tmp_path):
    path = tmp_path / "pid"
    with pytest.raises(ProgramError, match="stopped"):
        sh(f"""trap '' TERM; echo $$ > "$1"; {STOPPED}""", path, **STOP)
    assert not alive(int(path.read_text()))


GRANDCHILD = """sh -c 'trap "" TERM; echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 600' sh "$1" &
while ! [ -e "$1" ]; do sleep 0.01; done;"""


@pytest.mark.parametrize("then", [STOPPED, "kill -KILL $$", "exit 0"])
def test_grandchildren_do_not_outlive_it(tmp_path, then):
    path = tmp_path / "pid"
    if then == "exit 0":
        assert sh(f"{GRANDCHILD} {then}", path).exit_code == 0
    else:
        with pytest.raises(ProgramError):
            sh(f"{GRANDCHILD} {then}", path, **STOP)
    wait_until(lambda: not alive(recorded(path)), "the end of the grandchild")


def test_who_holds_the_pipes_in_another_session_does_not_hold_us(tmp_path):
    path = tmp_path / "pid"
    script = 'setsid sh -c \'echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 600\' sh "$1" &'
    done = sh(f'{script} while ! [ -e "$1" ]; do sleep 0.01; done; echo done', path)
    os.kill(recorded(path), signal.SIGKILL)
    assert done.out == b"done\n"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGTERM"])
def test_death_by_a_signal_is_an_error(name):
    with pytest.raises(ProgramError, match=f"sh was killed by {name}; it said: alas"):
        sh(f"echo alas >&2; kill -{name[3:]} $$")
    with pytest.raises(ProgramError, match="killed by signal 40"):
        sh("kill -40 $$")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "Permission denied"),
        (lambda path: path.write_text("#!/bin/sh\n"), "Permission denied"),
        (lambda path: (path.write_text("#!/nothing/here\n"), path.chmod(0o755)), "No such file"),
        (lambda path: (path.write_bytes(b"\x7fELF rest"), path.chmod(0o755)), "Exec format error"),
    ],
    ids=["missing", "directory", "not executable", "no interpreter", "not a program"],
)
def test_what_cannot_be_started_is_an_error(tmp_path, make, words):
    path = tmp_path / "program"
    make(path)
    with pytest.raises(ProgramError, match=f"cannot run {path}.*{words}"):
        run_program([path], timeout=LONG, environment=ENVIRONMENT)


def test_a_missing_directory_or_a_zero_byte_is_an_error(tmp_path):
    with pytest.raises(ProgramError, match=r"cannot run sh.*nowhere"):
        sh("exit 0", cwd=tmp_path / "nowhere")
    with pytest.raises(ProgramError, match=r"cannot run sh.*null byte"):
        sh("exit 0", "zero\0byte")


def ulimit(flag, **limits):
    # limits are there before there is anything to read from stdin
    done = sh(f"read line; ulimit -{flag}", stdin=b"go\n", limits=Limits(**limits))
    return done.out.decode().strip()


def test_limits_hold_before_the_first_line_of_stdin():
    assert ulimit("Sc") == ulimit("Hc") == "0"
    assert ulimit("Hf", file_size=1 << 20) == str((1 << 20) // 512)
    assert ulimit("Hv", address_space=1 << 30) == str((1 << 30) // 1024)
    assert ulimit("Hn", open_files=32) == "32"
    assert ulimit("Hn", open_files=1 << 40) == sh("ulimit -Hn").out.decode().strip()


def test_a_file_beyond_its_limit_ends_the_program(tmp_path):
    script = 'read line; exec dd if=/dev/zero of="$1" bs=4096 count=9'
    with pytest.raises(ProgramError, match="killed by SIGXFSZ"):
        sh(script, tmp_path / "file", stdin=b"go\n", limits=Limits(file_size=4096))
    assert (tmp_path / "file").stat().st_size == 4096


def test_last_words_are_the_end_in_printable_text():
    script = r"""printf 'x%2000s\n' x >&2; printf '\033[31mred\000 \377\n\n  the end \n' >&2"""
    words = sh(script).last_words
    assert words.endswith("?[31mred? \N{REPLACEMENT CHARACTER}; the end")
    assert words.startswith("... ")
    assert len(words) == 604
    assert sh("exit 1").last_words == ""


def test_the_command_line_is_logged_and_nothing_else(caplog):
    caplog.set_level(logging.DEBUG)
    environment = {**ENVIRONMENT, "TOKEN": "secret-1"}
    sh("cat; echo $TOKEN", "an argument", stdin=b"secret-2", environment=environment)
    assert [record.getMessage() for record in caplog.records] == [
        "running sh -c 'cat; echo $TOKEN' sh 'an argument'"
    ]
    assert caplog.records[0].levelno == logging.DEBUG


def test_any_thread_may_run_programs():
    def one(number):
        return sh("cat; exit $1", str(number), stdin=noise(number))

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(one, range(32)))
    assert [(one.exit_code, one.out) for one in done] == [(n, noise(n)) for n in range(32)]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_takes_its_children_along(tmp_path, ending):
    """In a process that, as ours does, turns SIGTERM into an exception."""
    code = """
import signal, sys
from dmsign_fast.processes import run_program
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
script, path, directories = sys.argv[1:]
run_program(["sh", "-c", script, "sh", path], timeout=600, environment={"PATH": directories})
"""
    path = tmp_path / "pid"
    arguments = [f"{GRANDCHILD} sleep 600", path, os.environ["PATH"]]
    with subprocess.Popen(
        [DMSIGN[0], "-c", code, *arguments], stderr=subprocess.DEVNULL
    ) as process:
        grandchild = recorded(path)
        process.send_signal(ending)
        assert process.wait(LONG) in (9, -signal.SIGINT)
    wait_until(lambda: not alive(grandchild), "the end of the grandchild")


def test_a_bug_of_ours_stops_the_program_too(tmp_path, monkeypatch):
    path = tmp_path / "pid"
    monkeypatch.setattr(processes, "_PIECE", "not a number")
    with pytest.raises(TypeError):
        sh(f"{GRANDCHILD} {STOPPED}", path)
    wait_until(lambda: not alive(recorded(path)), "the end of the grandchild")


def test_a_lost_exit_status_is_an_error_and_not_0():
    code = """
import signal
from dmsign_fast.errors import ProgramError
from dmsign_fast.processes import run_program
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
try:
    run_program(["sh", "-c", "exit 1"], timeout=60, environment={"PATH": "/usr/bin:/bin"})
except ProgramError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "exit status of sh is lost" in done.stdout, done


def test_no_descriptor_is_left_open():
    def count():
        return len(list(Path("/proc/self/fd").iterdir()))

    sh("exit 0")
    before = count()
    for _ in range(3):
        sh("cat", stdin=b"data")
        with pytest.raises(ProgramError):
            sh("exec cat /dev/zero", stdin=b"data", output_limit=10)
    assert count() == before


@pytest.mark.parametrize("name", ["NOTATION_USERNAME", "NOTATION_PASSWORD", "DOCKER_AUTH_CONFIG"])
def test_no_program_sees_a_login(name):
    assert sh("env", environment=ENVIRONMENT | {name: "secret"}).out.count(b"secret") == 0


def test_no_program_sees_what_is_withheld(monkeypatch):
    monkeypatch.setattr(processes, "_withheld", set())
    environment = ENVIRONMENT | {"PHRASE": "secret"}
    assert b"secret" in sh("env", environment=environment).out
    withhold("PHRASE")
    assert b"secret" not in sh("env", environment=environment).out


def test_core_dumps_are_forbidden_before_a_key_is_read(tmp_path):
    script = """
import resource
from pathlib import Path
from dmsign_fast.errors import DmsignError
from dmsign_fast.signing.local import load_local_signer
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
try:
    load_local_signer(Path("/nowhere"), Path("/nowhere"))
except DmsignError:
    print(resource.getrlimit(resource.RLIMIT_CORE)[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.stdout == "0\n", done.stderr
