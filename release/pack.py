"""Packs a file with zstd: pack.py FILE DICTIONARY OUT LEVEL, where DICTIONARY may be empty."""
import sys

import zstandard

file, dictionary, out, level = sys.argv[1:]
with open(file, "rb") as f:
    text = f.read()
base, options = b"", {}
if dictionary:
    with open(dictionary, "rb") as f:
        base = f.read()
    options["dict_data"] = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
# The window and the search reach over the whole dictionary.
options["compression_params"] = zstandard.ZstdCompressionParameters.from_level(
    int(level), source_size=len(text), dict_size=len(base), window_log=26, chain_log=26, write_checksum=True)
with open(out, "xb") as f:
    f.write(zstandard.ZstdCompressor(**options).compress(text))
