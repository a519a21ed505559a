"""The engine's hottest modules as machine code, where `make compile` has made it.

The source is Python either way; mypyc translates it. A twin is used only while every source it was
made from is the same to the byte: an edited module runs as it was written, at once, and a machine
without a C compiler loses nothing but speed. FUNNELWATCH_COMPILED=0 does without the twins.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path

# Together, since they call each other for every event; but for the last, which is for what history is judged by.
MODULES = ("chains", "journeys", "matching", "tail", "tally", "weighing")
FOLDER = Path(__file__).with_name("_compiled")
MANIFEST = FOLDER / "manifest.json"
LIBRARY = "funnelwatch__mypyc"  # what all twins are in; each is but an entrance to it


def digests() -> dict[str, str]:
    """Module -> SHA-256 of its source; with them that of this interpreter, whose machine code it must be."""
    sources = {name: Path(__file__).with_name(f"{name}.py") for name in MODULES}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sources.items()}
    return {**found, "interpreter": str(sys.implementation.cache_tag)}


def use(search: list[str]) -> bool:
    """Have imports find the twins before the sources, if they are of today; whether they are."""
    if os.environ.get("FUNNELWATCH_COMPILED") == "0" or not MANIFEST.exists():
        return False
    manifest = json.loads(MANIFEST.read_text("utf-8"))
    if manifest["digests"] != digests():
        return False
    spec = importlib.util.spec_from_file_location(LIBRARY, FOLDER / manifest["library"])
    if spec is None or spec.loader is None:
        return False
    library = importlib.util.module_from_spec(spec)
    sys.modules[LIBRARY] = library
    spec.loader.exec_module(library)
    search.insert(0, str(FOLDER))
    return True
