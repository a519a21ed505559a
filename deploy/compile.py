"""`python deploy/compile.py`: translate the engine's hottest modules with mypyc, for `streams.compiled` to find.

Needs a C compiler and Python's headers; without them it says so, and everything runs as it is written.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["FUNNELWATCH_COMPILED"] = "0"

from streams.compiled import FOLDER, LIBRARY, MANIFEST, MODULES, digests  # noqa: E402 - the path comes first


def main() -> int:
    """Compile what has changed; 0, also where nothing can compile: that is no failure."""
    made_from = digests()
    if MANIFEST.exists() and json.loads(MANIFEST.read_text("utf-8"))["digests"] == made_from:
        return 0
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if shutil.which(compiler) is None or not headers.exists():
        missing = f"a C compiler ({compiler})" if shutil.which(compiler) is None else f"Python's headers ({headers})"
        print(f"not compiled: {missing} is missing; the engine runs as plain Python, at a fifth more work an event")
        return 0
    from setuptools.errors import CompileError, LinkError

    try:
        with tempfile.TemporaryDirectory() as build:
            library = _build(Path(build))
    except (CompileError, LinkError) as error:
        print(f"not compiled: {compiler} could not ({error}); the engine runs as plain Python")
        return 0
    MANIFEST.write_text(json.dumps({"library": library, "digests": made_from}), "utf-8")
    print(f"compiled: {', '.join(MODULES)}")
    return 0


def _build(build: Path) -> str:
    """The twins, put in place; the name of the library's file."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    os.chdir(ROOT)
    sources = [f"streams/{name}.py" for name in MODULES]
    flags = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", "--python-version=3.10"]
    extensions = mypycify([*flags, *sources], opt_level="3", debug_level="0", group_name="funnelwatch", target_dir=str(build / "c"))
    command = build_ext(Distribution({"name": "funnelwatch-engine", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(build / "lib"), str(build / "temp")
    command.ensure_finalized()
    command.run()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for made in [*(build / "lib").glob(f"{LIBRARY}.*"), *(build / "lib" / "streams").iterdir()]:
        shutil.copy2(made, FOLDER / made.name)
    (library,) = FOLDER.glob(f"{LIBRARY}.*")
    return library.name


if __name__ == "__main__":
    sys.exit(main())
