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
    "02": [
        (1, "lambda X, W, G: (G @ W.T, X.T @ G, G.mean(axis=0))", "db for 4 rows"),
        (1, "lambda X, W, G: (G @ W.T, G.T @ X, G.sum(axis=0))", "dW for 1 rows: .* the shape"),
        (2, "{'exp': 'input', 'log': 'input', 'relu': 'output', 'square': 'input'}", "exp: what"),
        (2, "{'exp': 'output'}", "log is missing"),
        (3, "lambda f, x, g: True", "it says True of 1.01 times the gradient"),
        (3, "lambda f, x, g: False", "it says False of the right gradient"),
        (3, "lambda f, x, g: [f(x) for _ in range(9)] and True", r"it called f 9 times"),
    ],
    "03": [
        (1, "lambda z, y: z", r"z \(1, 2\), y \[\d\]: at"),
        (1, "lambda z, y: len(y) * slope_by_scores(z, y)", r"z \(3, 5\), y "),
        (2, "lambda xs: 1.0", r"for the points \[1\.0, 2\.0\] .* already diverges"),
        (2, "lambda xs: limit_of(xs) / 2", "1.02 of that still comes down"),
        (3, "lambda slope_at, theta, n: theta", "with 2 weights 1 of the distance is left"),
        (3, "lambda slope_at, theta, n: heavy_ball(slope_at, theta, 200)", "200 slopes; 120 are"),
    ],
    "04": [
        (1, "lambda length: (1348, 1348)", "weights of the MLP at length 1"),
        (2, "lambda counts: 0 * counts[0]", r"right in 2\d%; chance is 25%"),
        (2, "lambda counts: 0", r"expected \(20000,\) answers, got \(\)"),
        (3, "(5, lambda h, x: h + x)", r"wrong at length \d+; one begins"),
        (3, "(4, lambda h, x: x)", r"the memory became \(200, 5\), not \(200, 4\)"),
    ],
    "05": [
        (1, "lambda I, H, layers, directions: H * (I + H + 2)", "I=1, H=1, 3 layer"),
        (2, "lambda ys, lengths: ys[-1]", r"for lengths \[6, 4\]: at \[1, 0\] you have nan"),
        (2, "lambda ys, lengths: ys[lengths - 1]", r"you have the shape \(2, 2, 4\)"),
        (3, "lambda W, U, b, order: (W[order], U[order], b[order])", "the outputs, renamed"),
    ],
    "06": [
        (1, "lambda hs, U: hs[-1] @ U.T", r"dL/dh_0 after 1 step"),
        (2, "lambda hs, xs, W, U: np.zeros((H, H))", r"dL/dU for 2 step"),
        (3, "lambda hs, xs, W, U: [hs[-1]] * T", "delta_11, T = 12"),
        (3, "lambda hs, xs, W, U: []", "expected 12 deltas, got 0"),
    ],
    "07": [
        (1, "lambda rate: (1, 1)", r"a rate of 0\.5 after 1 steps: you have 0\.5, the check finds"),
        (
            2,
            "dict.fromkeys((0.9, 1.0, 1.1), lambda T: T)",
            r"0\.9 Q: from 200 to 400 .* you say x2",
        ),
        (3, "2 * np.eye(H)", r"is left after 99 steps; the largest \|eigenvalue\| of U is 2"),
        (3, "np.eye(H)", r"its largest singular value is 1\."),
        (3, "np.eye(3)", r"expected the shape \(32, 32\), got \(3, 3\)"),
    ],
    "08": [
        (1, "lambda n: np.log(n)", "what is left of c = 1 after n = 2 steps"),
        (2, "(latch.weight_ih.numpy(), latch.bias_ih.numpy())", "h at step 3, after the command 1"),
        (
            3,
            "lambda dh, dc, c_before, c, gates, U: (0 * dh, dc * gates[1])",
            "dh_before, from only",
        ),
        (3, "lambda dh, dc, c_before, c, gates, U: (dh, dc)", "dc_before, from only dc"),
    ],
    "09": [
        (1, "lambda cell: None", "the next state"),
        (1, "lambda cell: cell.weight_hh.data.fill(0)", "weight_hh, which was to stay"),
        (2, "lambda W, U, b: lambda h, x: (mg.tanh(x @ W + b)[:, :4],) * 2", "the states"),
        (3, "lambda weights, cell: (True, 'keep')", r"of cell 1 you say \(True, 'keep'\)"),
    ],
    "10": [
        (1, "lambda ys, lengths: ys[lengths - 1, np.arange(2)]", "the backward half"),
        (1, "lambda ys, lengths: ys[-1]", r"the forward half, lengths \[7, 4\]: .* nan"),
        (2, "lambda state: state", "the outputs, turned back"),
        (3, "lambda f, b: np.concatenate([f, b], axis=-1)", "row 0 has seen x_0"),
        (3, "lambda f, b: 0 * np.concatenate([f, b], axis=-1)", "row 1 has not read x_0"),
    ],
    "11": [
        (1, "lambda logits, temperature: np.full(7, 1 / 7)", r"the log of p_0 / p_1 at 0\.1"),
        (2, "lambda text: 2.0 * (len(text) - 1)", "the sum of p over all next characters"),
        (3, "'x' * 20", r"yours costs \d+\.\d+ bits; greedily, "),
        (3, "'too short'", "it has 9 characters"),
    ],
    "12": [
        (1, "lambda v, train: (v - v.mean()) / v.std()", "the mean of the training part"),
        (2, "lambda one_step, window, n: np.full(n, one_step(window))", "a sine wave"),
        (3, "lambda train, test, span: np.isin(test, train).mean()", r"40 windows of 3"),
    ],
    "13": [
        (1, "('anna', 'hanna')", "anna and hanna have different letters"),
        (1, "('anna', 'anna')", "to both of anna and anna it says "),
        (2, "lambda guessed, true: (guessed == true).mean()", "always class 0: you have 0.9"),
        (3, "lambda p: p.argmax(1)", r"wrong in \d+\.\d% of its answers; always answering"),
        (3, "lambda p: np.full(len(p), -1)", "it answers 0% of them"),
    ],
    "14": [
        (1, "lambda target, counts: (target[:-1], target[1:])", "the padding of a row with 4"),
        (1, "lambda target, counts: (target, target)", "the shape of what it reads"),
        (2, "lambda s, m, n: (s, s)", "the sum of the weights"),
        (2, "lambda s, m, n: (np.full((3, 5), 0.2), 0)", r"log\(a_j / a_0\) of row 0: at"),
        (2, "lambda s, m, n: attend(s, m, 0 * n + 5)", "row 1 has weights in its padding"),
        (3, "lambda log_p, width, length: (0,) * length", "with a width of 1 it should be greedy"),
    ],
    "15": [
        (1, "lambda x, image: x", r"the shape is \(1, 1, 16\)"),
        (2, "lambda image, word: 0.1", r"p\(zero\): you have 0\.1"),
        (3, "lambda images: np.zeros(len(images), int)", r"right in \d+\.\d+%; letter by letter"),
    ],
    "16": [
        (1, "len", r"\[1, 1\] in 2 frames has a loss of inf"),
        (1, "lambda labels: 2 * len(labels)", r"in \d frames has a loss of \d"),
        (2, "[[0.1, 0.9, 0.0]]", "greedy reads 'a', .*: that is the best"),
        (2, "[[0.1, 0.2, 0.3]]", r"the sums of the rows: at \[0\] you have 0\.6"),
        (3, "lambda p, labels: float(np.prod(p.max(1)))", r"p\(''\) in 1 frames"),
    ],
    "17": [
        (1, "24", "bytes for each element: you have 24, the check finds 56"),
        (2, "lambda x: float(np.log(1 + np.exp(min(x, 700))))", r"softplus\(-40\.0\)"),
        (3, "np.cos", "its values: at .* you have"),
        (3, "lambda x: mg.tensor(np.exp(-(np.asarray(x)) ** 2))", "ends in "),
    ],
    "18": [
        (1, "64", "floats for each row and step: you have 64, the check finds 32"),
        (2, "lambda h, x: (0.1 * ((x + h) @ cell.U),) * 2", "nothing of it can be hoisted"),
        (2, "lambda h, x: (x @ cell.U,) * 2", "the states"),
        (3, "lambda h, x: (mg.tanh(x + h @ cell.U),) * 2", "dL/dh_0 after 1 steps"),
        (3, "lambda h, x: (h + 0.0 * (x @ cell.U),) * 2", "U has no gradient"),
    ],
    "19": [
        (1, "mg.tanh", "its values: at"),
        (
            2,
            "lambda a, b: mg.sqrt(a * a + b * b)",
            r"its slope by a at \(0, 0\): at \[0\] you have nan",
        ),
        (3, "lambda x: mg.log(1.0 - mg.exp(-x))", r"log\(1 - e\^-x\) at 1e-15"),
    ],
    "20": [
        (1, "lambda exponent: np.zeros(12)", "the three largest exponents"),
        (2, "np.eye(3)", r"its largest singular value is 1\."),
        (2, "20 * np.eye(3)", "the largest exponent: you have 2.99"),
        (3, "0.01", r"with noise of size 0\.01 it is \+0\.\d+"),
    ],
    "21": [
        (1, "lambda numbers: 1.0", "the bias of c alone: you have 1, the check finds -1"),
        (1, "lambda n: np.log((f := n[-1] / n[-2]) / (1 - f))", "look at the first"),
        (2, "lambda o, c: o", "the factor: at"),
        (3, "bias", r"x\d\.\d+e-\d+ of it is left"),
        (3, "np.zeros(3)", r"expected the shape \(256,\), got \(3,\)"),
    ],
    "22": [
        (1, "lambda lstm, n: None", "the forget gates of 3 units, for 10 steps"),
        (2, "lambda gru, steps: None", r"before it reached \d+ steps back, and now \d+"),
        (3, "lambda: nn.LSTM(1, H)", "ends in AttributeError"),
        (3, "Minimal", r"the shape of h_T: at \[1\] you have 2"),
    ],
    "23": [
        (1, "lambda kind, H, layers, directions: H", "GRU, 4 units, 3 layers"),
        (2, "lambda W, b: {}", "ends in "),
        (2, "lambda W, b: translated([W[1], W[0], W[2], W[3]], b)", "the cell state"),
        (3, "('It is so as it is', lambda: 1.0, lambda v: True)", "the verdict is the same"),
        (3, "('It is random, I say', rng.random, lambda v: v > 0)", "measured once more"),
    ],
    "24": [
        (1, "lambda lengths: (1, len(lengths) - 1)", r"\(recorded, replayed\) of \[5\]|of \[5, 5"),
        (2, "lambda lengths: 0 * lengths + 40", r"\d\d% of the steps are padding"),
        (2, "lambda lengths: lengths", r"2\d different lengths"),
        (3, "lambda fast, adam, x, y: fast(x, y)[0]", "expected the loss as a float, got Tensor"),
        (3, "lambda fast, adam, x, y: fast(x, y)[0].item()", "the rate after losses down to"),
    ],
    "25": [
        (
            1,
            "lambda kind, H, layers, listeners: H * layers * listeners * 8",
            r"GRU\(24\), 1 layers",
        ),
        (2, "lambda stream, x, active: stream(x)", r"row \d at step \d+"),
        (3, "lambda layer, xs, chunk, ahead: layer(xs)[0].numpy()", "steps 0 to 19, after step 20"),
        (
            3,
            "lambda layer, xs, chunk, ahead: chunked(layer, xs, chunk, 0)",
            "with all of the future",
        ),
    ],
}
