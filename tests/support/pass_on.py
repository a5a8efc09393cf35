"""
pass_on.py — becomes a program that finds these descriptors from 3 on, and the variables that say so.

    python3 pass_on.py 7,9 web:admin self PROGRAM ARGUMENT...

self is for the program itself; any other process id is written as it is.
"""
import os
import sys

FIRST = 3


def main():
    numbers, names, pid, *command = sys.argv[1:]
    wanted = [int(number) for number in numbers.split(",") if number]
    # First away from where they go to, so that none is overwritten before it was moved.
    aside = [os.dup2(number, FIRST + 100 + place) for place, number in enumerate(wanted)]
    for place, number in enumerate(aside):
        os.dup2(number, FIRST + place)
    for number in set(wanted) | set(aside):
        if number >= FIRST + len(wanted):
            os.close(number)
    os.environ.update(LISTEN_FDS=str(len(wanted)), LISTEN_FDNAMES=names,
                      LISTEN_PID=str(os.getpid()) if pid == "self" else pid)
    os.execv(command[0], command)


main()
