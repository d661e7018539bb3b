"""Reads wheels as installers do, and fails if one is not what its name and the formats demand."""

import base64
import csv
import hashlib
import pathlib
import sys
import zipfile

from packaging.metadata import Metadata
from packaging.tags import parse_tag
from packaging.utils import parse_wheel_filename

for path in map(pathlib.Path, sys.argv[1:]):
    name, version, _, tags = parse_wheel_filename(path.name)
    with zipfile.ZipFile(path) as wheel:
        assert wheel.testzip() is None
        info = f"oidc_dbt-{version}.dist-info/"
        metadata = Metadata.from_email(wheel.read(info + "METADATA"), validate=True)
        assert (metadata.name, metadata.version) == (name, version), path
        lines = wheel.read(info + "WHEEL").decode().splitlines()
        named = [tag for line in lines if line.startswith("Tag: ") for tag in parse_tag(line[5:])]
        assert set(named) == tags and len(named) == len(tags), path
        rows = list(csv.reader(wheel.read(info + "RECORD").decode().splitlines()))
        assert [row[0] for row in rows] == wheel.namelist(), path
        for file, sum, size in rows[:-1]:
            text = wheel.read(file)
            assert sum == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode(), file
            assert int(size) == len(text), file
    print(path.name, "ok")
