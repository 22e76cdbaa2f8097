"""Runs the tests, in an environment that it sets up by itself.

python3 tools/test.py [pytest arguments]
"""

import os
import sys

import _env


def test():
    python = _env.ensure(["test"])
    os.chdir(str(_env.ROOT))
    return _env.run([python, "-m", "pytest", *sys.argv[1:]])


if __name__ == "__main__":
    _env.main(test)
