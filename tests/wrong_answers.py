"""Wrong answers to the exercises of tutorials/, as expressions in a page's names, and what its
checks say of them. A check that takes everything would teach nothing.
"""

from __future__ import annotations

WRONG: dict[str, list[tuple[int, str, str]]] = {
    "01": [
        (1, "lambda a, y: (a,)", r"the slope at a = -1\.0, in a tuple: at \[0\] you have -1, "),
        (1, "lambda a, y: (math.exp(a),)", "y known and a hidden: at .* you have nan"),
        (1, "lambda a, y: y", r"you have the shape \(\), not \(1,\)"),
        (2, "0.1", r"dh_20/dh_0 = \d\.\d+e-\d+; .* above 0\.5 from step 3 on"),
        (2, "0", "0 stays 0 for ever"),
        (3, "lambda tape, slopes, i: 1.0", "dL/dw: you have 1, "),
        (3, "lambda tape, slopes, i: g[i]", "the derivative of a a"),
    ],
}
