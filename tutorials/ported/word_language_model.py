"""PyTorch's word_language_model: an LSTM writes Hamlet word by word, by truncated BPTT.

After word_language_model (pytorch/examples): tied weights, dropout, states carried from piece to
piece, gradients clipped, the rate quartered when validation gets no better.
"""

import math

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim


class RNNModel(nn.Module):
    """Word numbers (T, B) and a state -> what comes next, (T, B, ntoken), and the state."""

    def __init__(self, rnn_type, ntoken, ninp, nhid, nlayers, dropout=0.5, tie_weights=False):
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = getattr(nn, rnn_type)(ninp, nhid, nlayers, dropout=dropout)
        self.decoder = nn.Linear(nhid, ntoken)
        nn.init.uniform_(self.encoder.weight, 0.1)
        nn.init.uniform_(self.decoder.weight, 0.1)
        nn.init.constant_(self.decoder.bias, 0.0)
        if tie_weights:
            self.decoder.weight = self.encoder.weight

    def forward(self, words, hidden=None):
        output, hidden = self.rnn(self.drop(self.encoder(words)), hidden)
        return self.decoder(self.drop(output)), hidden


def detached(hidden):
    """A state of any kind, cut off from the steps that led to it."""
    return tuple(map(detached, hidden)) if isinstance(hidden, tuple) else hidden.detach()


def evaluate(model, ids, bptt):
    """The mean loss of a word."""
    model.eval()
    total, count, hidden = 0.0, 0, None
    with mg.no_grad():
        for words, targets in data.Stream(ids, bptt, 10):
            output, hidden = model(words, hidden)
            total += nn.cross_entropy(output, targets, reduction="sum").item()
            count += targets.size
    return total / count


def train(model, ids, optimizer, bptt, batch_size, clip):
    model.train()
    hidden = None
    for words, targets in data.Stream(ids, bptt, batch_size):
        output, hidden = model(words, hidden)
        loss = nn.cross_entropy(output, targets)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        hidden = detached(hidden)


def generate(model, tokenizer, number, temperature=1.0):
    model.eval()
    words, hidden = [tokenizer.end], None
    with mg.no_grad():
        for _ in range(number):
            output, hidden = model([words[-1:]], hidden)
            words.append(nn.sample(output, temperature).item())
    ends = np.flatnonzero(np.equal(words, tokenizer.end)) + 1
    return "\n".join(map(tokenizer.decode, np.split(words, ends)))


def main(
    rnn_type="LSTM", emsize=200, nhid=200, nlayers=2, lr=20.0, clip=0.25, epochs=8, batch_size=20,
    bptt=35, dropout=0.2, tied=True, save="model.ckpt", lines=None,
):  # fmt: skip
    mg.seed(1111)
    text = data.shakespeare().lower().splitlines()[:lines]
    parts = data.split_in_time(len(text))
    tokenizer = data.Tokenizer((text[i] for i in parts.train), unit="word")
    train_data, val_data, test_data = (
        np.concatenate([tokenizer.encode(text[i], end=True) for i in part]) for part in parts
    )
    model = RNNModel(rnn_type, len(tokenizer), emsize, nhid, nlayers, dropout, tied)
    optimizer = optim.SGD(model.parameters(), lr=lr)
    schedule = optim.ReduceLROnPlateau(optimizer, factor=0.25, patience=0)
    best = math.inf
    for epoch in range(1, epochs + 1):
        train(model, train_data, optimizer, bptt, batch_size, clip)
        loss = evaluate(model, val_data, bptt)
        print(f"epoch {epoch}: lr {optimizer.lr:g}, loss {loss:.2f}, ppl {math.exp(loss):.1f}")
        schedule.step(loss)
        if loss < best:
            best = loss
            mg.train.save(save, {"model": model.state_dict()})
    model.load_state_dict(mg.train.load(save)["model"])
    print(generate(model, tokenizer, 100))
    counts = np.bincount(train_data, minlength=len(tokenizer)) + 1
    counted = -np.log(counts[test_data] / counts.sum()).mean()
    return math.exp(evaluate(model, test_data, bptt)), math.exp(counted)


if __name__ == "__main__":
    print("test perplexity {:.1f}, of counted words {:.1f}".format(*main()))
