"""Run benchmarks, print tables, write JSON: `python -m benchmarks [NAME …] [--rounds N] [--results FOLDER]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import (
    attacks,
    auth,
    authenticated_connects,
    clients,
    commit_to_client,
    connections,
    engine,
    fan_out,
    growth,
    items,
    javascript_fold,
    pages,
    processes,
    reporting,
    requests,
    resume,
    soak,
    stalled_reader,
    streams,
    waits,
)
from benchmarks.report import Report
from tests.harness.programs import fork_context

BENCHMARKS = {
    benchmark.__name__.rpartition(".")[2]: benchmark
    for benchmark in (
        fan_out,
        commit_to_client,
        requests,
        connections,
        authenticated_connects,
        resume,
        growth,
        javascript_fold,
        pages,
        processes,
        soak,
        stalled_reader,
        engine,
        streams,
        items,
        waits,
        clients,
        attacks,
        auth,
        reporting,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="benchmarks to run; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each, in turn with its peers")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder for the JSON files")
    arguments = parser.parse_args()
    # Each program imports its packages itself and shares no memory, as its peers do.
    fork_context.set_forkserver_preload([])
    for name in arguments.names or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        report = Report(name, benchmark.__doc__ or "")
        print(f"{name}: {report.about.splitlines()[0]}", flush=True)
        benchmark.run(report, rounds=arguments.rounds)
        report.write(arguments.results)
        print(f"\n{report.table()}\n", flush=True)


if __name__ == "__main__":
    main()
