"""The peephole LSTM as a PyTorch user writes it: eager, and compiled by torch.jit.script.

Weights are laid out as in torch.nn, W (4H, I) and U (4H, H), which is up to 15 % faster here than
(I, 4H). The product with the inputs is out of the loop; indexing xs[t] in the loop instead would
make a gradient of the size of xs at every step.
"""

import torch
from torch.nn.functional import linear


def peephole(xs, W, U, b, p_i, p_f, p_o):
    """(T, B, I) -> hs (T, B, H)."""
    h = xs.new_zeros(xs.shape[1], p_i.shape[0])
    c = xs.new_zeros(xs.shape[1], p_i.shape[0])
    hs = []
    for a in linear(xs, W, b).unbind(0):
        i, f, g, o = torch.addmm(a, h, U.t()).chunk(4, 1)
        i = torch.sigmoid(i + p_i * c)
        f = torch.sigmoid(f + p_f * c)
        c = f * c + i * torch.tanh(g)
        o = torch.sigmoid(o + p_o * c)
        h = o * torch.tanh(c)
        hs.append(h)
    return torch.stack(hs)


@torch.jit.script
def scripted_peephole(
    xs: torch.Tensor,
    W: torch.Tensor,
    U: torch.Tensor,
    b: torch.Tensor,
    p_i: torch.Tensor,
    p_f: torch.Tensor,
    p_o: torch.Tensor,
) -> torch.Tensor:
    h = torch.zeros([xs.shape[1], p_i.shape[0]])
    c = torch.zeros([xs.shape[1], p_i.shape[0]])
    hs: list[torch.Tensor] = []
    for a in linear(xs, W, b).unbind(0):
        i, f, g, o = torch.addmm(a, h, U.t()).chunk(4, 1)
        i = torch.sigmoid(i + p_i * c)
        f = torch.sigmoid(f + p_f * c)
        c = f * c + i * torch.tanh(g)
        o = torch.sigmoid(o + p_o * c)
        h = o * torch.tanh(c)
        hs.append(h)
    return torch.stack(hs)
