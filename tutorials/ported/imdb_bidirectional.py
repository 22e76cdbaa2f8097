"""Keras' bidirectional LSTM on IMDB: is a text positive? Padding stands in front of it.

After "Bidirectional LSTM on IMDB" (keras-io, nlp). The texts are lines of Hamlet, the labels those
that a lexicon of rated words gives: `pip install "minigrad-bptt[data]"`.
"""

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim


class Sentiment(nn.Module):
    def __init__(self, max_features):
        self.embedding = nn.Embedding(max_features, 128)
        self.lstm = nn.LSTM(128, 64, num_layers=2, bidirectional=True, return_sequences=False)
        self.dense = nn.Linear(128, 1)

    def forward(self, words, mask):  # (T, B) -> (B,), before the sigmoid
        return self.dense(self.lstm(self.embedding(words), mask=mask)[0])[:, 0]


def main(epochs=6, max_features=2000, maxlen=200):
    mg.seed(0)
    texts = np.array([line for line in data.shakespeare().lower().split("\n") if " " in line])
    labels = data.sentiment_words().weak_labels(texts)  # -1: no word of the line is rated
    texts, labels = texts[labels >= 0], labels[labels >= 0].astype(np.float32)
    train, _, val = data.split_at_random(len(texts), (0.8, 0, 0.2), labels=labels)
    tokenizer = data.Tokenizer(texts[train], unit="word", limit=max_features)
    x_train, x_val = ([tokenizer.encode(t)[-maxlen:] for t in texts[i]] for i in (train, val))
    print(len(x_train), "training sequences,", len(x_val), "validation sequences")

    model = Sentiment(max_features)
    words, mask = data.pad(x_val, left=True)
    print(model.summary(words, mask))

    def loss(model, batch):
        return nn.bce_with_logits(model(batch.x, batch.mask), batch.y)

    def accuracy():
        return {"accuracy": ((model(words, mask).numpy() > 0) == labels[val]).mean()}

    batches = data.Batches(x_train, labels[train], batch=32, left=True)
    adam = optim.Adam(model.parameters())
    mg.train.fit(model, loss, batches, adam, epochs=epochs, validate=accuracy, metric="accuracy",
                 larger_is_better=True)  # fmt: skip
    return accuracy()["accuracy"], max(labels[val].mean(), 1 - labels[val].mean())


if __name__ == "__main__":
    print("accuracy {:.0%}, always the larger class {:.0%}".format(*main()))
