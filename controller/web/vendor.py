"""Install the page's libraries at the versions of ``package-lock.json`` into ``static/vendor``: ``python -m controller.web.vendor``.

Nothing of theirs is committed; a wheel is built with the folder filled. Running it again without a network does nothing, unless the
lock file has changed.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["COMMAND", "FILES", "VendorError", "install", "missing"]

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
COMMAND = "python -m controller.web.vendor"

# file in static/vendor: file in node_modules
FILES = {
    "preact.js": "preact/dist/preact.module.js",
    "hooks.js": "preact/hooks/dist/hooks.module.js",
    "htm.js": "htm/dist/htm.module.js",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "preact.LICENSE": "preact/LICENSE",
    "htm.LICENSE": "htm/LICENSE",
    "uplot.LICENSE": "uplot/LICENSE",
}
# so that the type checker finds the types of a module served from here
_TYPES = {
    "preact.d.ts": 'export * from "preact";\n',
    "hooks.d.ts": 'export * from "preact/hooks";\n',
    "htm.d.ts": 'export { default } from "htm";\n',
    "uplot.d.ts": 'import uPlot from "uplot";\nexport default uPlot;\n',
}


class VendorError(RuntimeError):
    """The page's libraries could not be installed; says what to do."""


def missing(static: Path) -> list[str]:
    """Return the library files that `static` lacks."""
    return [name for name in FILES if not (static / "vendor" / name).is_file()]


def install(*, develop: bool = False) -> bool:
    """Fill ``static/vendor``; return whether anything had to be done. With `develop` the type checker is installed too.

    Raises
    ------
    VendorError
        npm is missing or has failed.
    """
    vendor = HERE / "static" / "vendor"
    mark, wanted = vendor / "LOCK", hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    filled = mark.is_file() and mark.read_text().strip() == wanted and not missing(HERE / "static")
    if filled and (not develop or (HERE / "node_modules" / "typescript").is_dir()):
        return False
    npm = shutil.which("npm")
    if npm is None:
        raise VendorError(
            f"npm is not on PATH, so the page's libraries cannot be installed into {vendor}. "
            f"Install Node.js 20 or newer (Debian: apt install nodejs npm), then run: {COMMAND}"
        )
    wish = ["--include=dev"] if develop else ["--omit=dev"]
    done = subprocess.run([npm, "ci", "--ignore-scripts", *wish], cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise VendorError(f"npm ci in {HERE} ended with {done.returncode}; it needs the npm registry once. It said:\n{done.stderr.strip()}")
    vendor.mkdir(parents=True, exist_ok=True)
    for name, source in FILES.items():
        text = (HERE / "node_modules" / source).read_text(encoding="utf-8")
        if name.endswith(".js"):
            # a browser knows no package names, and the source maps stay behind
            text = text.replace('from"preact"', 'from"./preact.js"')
            text = "\n".join(line for line in text.splitlines() if not line.startswith("//# sourceMappingURL")) + "\n"
        (vendor / name).write_text(text, encoding="utf-8")
    for name, text in _TYPES.items():
        (vendor / name).write_text(text, encoding="utf-8")
    mark.write_text(wanted + "\n")
    return True


def main() -> int:
    """Install, and say what was done; ``--dev`` adds the type checker."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        done = install(develop="--dev" in sys.argv[1:])
    except VendorError as error:
        log.error("%s", error)
        return 1
    log.info("The page's libraries are in %s%s", HERE / "static" / "vendor", "" if done else " already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
