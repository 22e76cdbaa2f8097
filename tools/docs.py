"""Builds the documentation site, in an environment that it sets up by itself.

python3 tools/docs.py [--help]      the front page is build/site/index.html
"""

import os
import sys

import _env


def docs():
    python = _env.ensure(["docs"])
    os.chdir(str(_env.ROOT))
    return _env.run([python, str(_env.ROOT / "tools" / "docs" / "build.py"), *sys.argv[1:]])


if __name__ == "__main__":
    _env.main(docs)
