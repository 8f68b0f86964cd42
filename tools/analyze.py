#!/usr/bin/env python3
"""gcc -fanalyzer over every file of the library, the program and the examples, with its own flags. What tools/analyzer.txt names is no
finding. Usage: analyze.py COMPILE_COMMANDS JOBS"""
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def suppressed():
    with open(os.path.join(HERE, "tools", "analyzer.txt")) as file:
        return {tuple(line.split("#")[0].split()) for line in file if line.split("#")[0].strip()}


def name_of(entry):
    return os.path.relpath(os.path.join(entry["directory"], entry["file"]), HERE)


def analyze(entry):
    name = name_of(entry)
    command = shlex.split(entry["command"])
    command = command[next(i for i, word in enumerate(command) if re.search(r"(^|/)(gcc|cc)[-0-9.]*$", word)) + 1:]
    out = command.index("-o")
    del command[out:out + 2]
    command = [word for word in command if word not in ("-Werror", "-O3")]
    if name.startswith("lib/") and not name.startswith("lib/kernels/") and name not in ("lib/base/status.c", "lib/dist/dist.c"):
        command += ["-D_GNU_SOURCE=", "-include", os.path.join(HERE, "tools", "analyzer.h")]
    done = subprocess.run(["gcc", *command, "-O1", "-fanalyzer", "-fno-diagnostics-show-caret", "-fdiagnostics-path-format=none", "-o",
                           os.devnull], cwd=entry["directory"], stderr=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"})
    return name, done.returncode, done.stderr


def main():
    with open(sys.argv[1]) as file:
        entries = {name_of(e): e for e in json.load(file) if re.match(r"(lib|cli|examples)/", name_of(e))}
    known, found = suppressed(), 0
    with concurrent.futures.ThreadPoolExecutor(int(sys.argv[2])) as pool:
        for name, code, text in pool.map(analyze, entries.values()):
            if code:
                found = 1
                print(text)
            for line in text.splitlines():
                warning = re.search(r"\[(-Wanalyzer-[a-z-]+)\]", line)
                if warning and (name, warning[1]) not in known:
                    found = 1
                    print(f"{name}: {line}")
    sys.exit(found)


main()
