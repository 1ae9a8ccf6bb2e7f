"""Shell programs that a `ProcessManager` runs in a separate process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import psutil

from tests.harness.programs import PROJECT_DIR
from tests.harness.serve import processes_where, wait_none_left
from tests.harness.server import clean_environment
from tests.harness.waiting import wait_until

LIMIT_SECONDS = 40
STOP_TIMEOUT_SECONDS = 30.0

MAIN = """
import json, logging, sys
from mahavishnu_site.serve.prefixed_output import PrefixedOutput
from mahavishnu_site.serve.process_manager import ProcessManager
from mahavishnu_site.serve.replica import Program
from mahavishnu_site.serve.restart_policy import RestartPolicy

programs, options = map(json.loads, sys.argv[1:])
for arguments in programs.values():
    arguments["restart_policy"] = RestartPolicy(**arguments.get("restart_policy", {}))
logging.basicConfig(format="%(message)s", level=logging.INFO)
output = PrefixedOutput(1, names=programs)
print("manager starts", flush=True)
listed = [Program(name=name, **arguments) for name, arguments in programs.items()]
sys.exit(ProcessManager(listed, output=output, **options).run())
"""

# Ends soon after SIGTERM; a second SIGTERM meanwhile prints a second line.
STOPS = "trap 'echo terminated; end=1' TERM; echo ready; while [ ! $end ]; do sleep 0.02; done; sleep 0.1"

# Ends a moment after it is released: a manager that does not wait for it then ends the others first.
HELPER = (
    "trap '' TERM; echo helper is ready; until [ -e $FOLDER/released ]; do sleep 0.02; done; "
    "sleep 0.2; echo helper ends"
)
NEW_SESSION = f"{sys.executable} -S -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])'"


def second_time(first: str) -> str:
    """Return a command that runs `first` at its first start, and `STOPS` at its second."""
    return f"if [ -e $FOLDER/started ]; then {STOPS}; exit; fi; touch $FOLDER/started; {first}"


class Run:
    """A manager with programs, in a new process group and without a terminal.

    Args:
        programs: The command of each program, or its arguments of `Program`. Its shell has the variables FOLDER and
            HELPER.
        folder: Identifies the processes of this run.
        stdout: Gets the output of the programs; by default the file that gets the log.
        options: Arguments of `ProcessManager`.
    """

    def __init__(
        self, programs: dict[str, str | dict[str, Any]], *, folder: Path, stdout: int | None = None, **options: Any
    ) -> None:
        self.folder = folder
        self._output = folder / "output"
        arguments = {
            name: {"command": program} if isinstance(program, str) else program for name, program in programs.items()
        }
        options = {"stop_timeout_seconds": STOP_TIMEOUT_SECONDS, **options}
        with self._output.open("wb") as output:
            self.main = subprocess.Popen(
                [sys.executable, "-c", MAIN, json.dumps(arguments), json.dumps(options)],
                cwd=PROJECT_DIR,
                env={**clean_environment(), "FOLDER": str(folder), "HELPER": HELPER},
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,
            )

    def signal_group(self, number: signal.Signals) -> None:
        os.killpg(self.main.pid, number)

    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def wait_for(self, text: str, *, times: int = 1) -> None:
        wait_until(lambda: self.output().count(text) >= times, timeout_seconds=LIMIT_SECONDS, what=self.output)

    def processes(self) -> list[psutil.Process]:
        return processes_where(lambda process: process.environ().get("FOLDER") == str(self.folder))

    def wait_ended(self) -> int:
        """Wait until no process is left, and return the exit code of the manager."""
        code = self.main.wait(timeout=LIMIT_SECONDS)
        wait_none_left(self.processes, output=self.output)
        return code

    def close(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.main.wait()


class Manage(Protocol):
    """The fixture `manage`."""

    def __call__(self, programs: dict[str, str | dict[str, Any]], **options: Any) -> Run: ...
