"""Processes that start servers at the same time never choose the same port."""

import subprocess
import sys

from driftloop.infra.processes.child import free_port

ASK = "from driftloop.infra.processes.child import free_port; print(*(free_port() for _ in range(200)))"


def test_processes_that_ask_at_the_same_time_get_different_ports() -> None:
    command = [sys.executable, "-c", ASK + "; import sys; sys.stdout.flush(); sys.stdin.read()"]
    asking = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    ports = [port for process in asking if process.stdout for port in process.stdout.readline().split()]
    for process in asking:
        process.communicate()
    assert len(set(ports)) == len(ports) == 600


def test_a_port_is_not_chosen_twice_in_a_row() -> None:
    assert len({free_port() for _ in range(200)}) == 200
