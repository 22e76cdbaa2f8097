"""PyTorch's names classifier: an RNN reads a surname letter by letter and says from where it is.

After "Classifying Names with a Character-Level RNN" (pytorch/tutorials, intermediate). The surnames
are Faker's: `pip install "minigrad-bptt[data]"`.
"""

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim


class CharRNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        self.rnn = nn.RNN(input_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)

    def forward(self, line, lengths=None):  # letters one-hot, (T, B, input_size)
        _, hidden = self.rnn(line, lengths=lengths)
        return mg.log_softmax(self.h2o(hidden[0]), axis=1)


def main(epochs=25, hidden_size=128, batch_size=64, learning_rate=0.15):
    mg.seed(2024)
    names = data.surnames()
    parts = data.split_at_random(len(names), (0.85, 0, 0.15), labels=names.labels)
    letters = data.Tokenizer(names.names[i] for i in parts.train)
    n_letters, n_countries = len(letters), len(names.classes)
    lines = [letters.encode(name) for name in names.names]
    rnn = CharRNN(n_letters, hidden_size, n_countries)

    batches = data.Batches([lines[i] for i in parts.train], names.labels[parts.train], batch_size)
    optimizer = optim.SGD(rnn.parameters(), lr=learning_rate)
    for epoch in range(epochs):
        losses = []
        for line, lengths, label in batches:
            loss = nn.nll_loss(rnn(mg.one_hot(line, n_letters), lengths), label)
            optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm_(rnn.parameters(), 3)
            optimizer.step()
            losses.append(loss.item())
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: average batch loss = {sum(losses) / len(batches):.3f}")

    def predict(line, lengths=None):
        with mg.no_grad():
            return rnn(mg.one_hot(line, n_letters), lengths).numpy()

    line, lengths = data.pad([lines[i] for i in parts.test])
    true, guessed = names.labels[parts.test], predict(line, lengths).argmax(axis=1)
    confusion = np.zeros((n_countries, n_countries))
    np.add.at(confusion, (true, guessed), 1)
    confusion /= confusion.sum(axis=1, keepdims=True)
    for country, row in zip(names.classes, confusion, strict=True):
        print(country, " ".join(f"{share:4.0%}" for share in row))

    for name in ("schneider", "lefebvre", "korhonen"):
        log_p = predict(letters.encode(name)[:, None])[0]
        best = np.argsort(-log_p)[:3]
        print(f"> {name}:", ", ".join(f"({log_p[k]:.2f}) {names.classes[k]}" for k in best))
    return float((guessed == true).mean())


if __name__ == "__main__":
    print(f"accuracy on names not trained on: {main():.0%}")
