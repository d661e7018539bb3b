"""Writes NAME.txt from NAME.in: `python3.12 pin.py NAME...`, with uv on PATH.

One hash each, that of the file for Python 3.12 on Linux x86-64: with those of
all platforms a list is ten times as long."""

import json
import re
import subprocess
import sys

FROM_SOURCE = ["logbook", "minimal-snowplow-tracker", "pure-sasl", "pyhive", "thrift"]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pin(name):
    compiled = subprocess.run(
        ["uv", "pip", "compile", "--quiet", "--python-version", "3.12", "--no-header", "--no-annotate", "--override", "overrides", f"{name}.in"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pins = {normal(line.split("==")[0]): line.split(" ;")[0] for line in compiled.splitlines()}
    options = [option for package in FROM_SOURCE if package in pins for option in ("--no-binary", package)]
    report = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:"]
        + options
        + ["--report", "-"]
        + list(pins.values()),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    hashes = {normal(i["metadata"]["name"]): i["download_info"]["archive_info"]["hashes"]["sha256"] for i in json.loads(report)["install"]}
    with open(f"{name}.txt", "w", encoding="utf-8") as f:
        print(f"# python3.12 pin.py {name}", file=f)
        for option, package in zip(options[::2], options[1::2]):
            print(option, package, file=f)
        for package in sorted(pins):
            print(f"{pins[package]} --hash=sha256:{hashes[package]}", file=f)


for name in sys.argv[1:]:
    pin(name)
