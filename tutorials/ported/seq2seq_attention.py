"""PyTorch's translation with attention: from French into English, word by word.

After "Translation with a Sequence to Sequence Network and Attention" (pytorch/tutorials,
intermediate). The sentences are days in words, Babel's: `pip install "minigrad-bptt[data]"`.
"""

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim


class EncoderRNN(nn.Module):
    def __init__(self, input_size, hidden_size, dropout_p=0.1):
        self.embedding = nn.Embedding(input_size, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, sentence, lengths):
        return self.gru(self.dropout(self.embedding(sentence)), lengths=lengths)


class BahdanauAttention(nn.Module):
    def __init__(self, hidden_size):
        self.Wa = nn.Linear(hidden_size, hidden_size)
        self.Ua = nn.Linear(hidden_size, hidden_size)
        self.Va = nn.Linear(hidden_size, 1)

    def forward(self, query, keys, mask):  # (B, H), (B, S, H), (B, S) -> (B, H)
        scores = self.Va(mg.tanh(mg.expand_dims(self.Wa(query), 1) + self.Ua(keys)))[:, :, 0]
        weights = mg.tap("weights", mg.softmax(mg.where(mask, scores, -1e30)))
        return (mg.expand_dims(weights, 2) * keys).sum(axis=1)


class AttnDecoderRNN(nn.Module):
    def __init__(self, hidden_size, output_size, dropout_p=0.1):
        self.embedding = nn.Embedding(output_size, hidden_size)
        self.attention = BahdanauAttention(hidden_size)
        self.gru = nn.GRUCell(2 * hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, output_size)
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, words, hidden, keys, mask):  # (T, B) -> logits (T, B, output_size)
        def step(hidden, embedded):
            context = self.attention(hidden, keys, mask)
            return self.gru(hidden, mg.concatenate([embedded, context], axis=1))

        embedded = self.dropout(self.embedding(words))
        result = mg.scan(step, hidden, embedded, record=["weights"])
        return self.out(result.ys), result.final, result.record.values["weights"]


def main(epochs=10, hidden_size=128, batch_size=32, days=2000, learning_rate=3e-3):
    mg.seed(0)
    french, english = (data.dates(days, [language], ["full"]) for language in ("fr", "en"))
    parts = data.split_by_group(french.iso, (0.9, 0, 0.1))  # no day is in both
    input_lang, output_lang = (
        data.Tokenizer((found.phrases[i].lower() for i in parts.train), unit="word")
        for found in (french, english)
    )
    inputs = [input_lang.encode(phrase.lower(), end=True) for phrase in french.phrases]
    targets = [output_lang.encode(phrase.lower(), True, True) for phrase in english.phrases]
    encoder = EncoderRNN(len(input_lang), hidden_size)
    decoder = AttnDecoderRNN(hidden_size, len(output_lang))
    optimizer = optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=learning_rate)

    def encode(sentences, lengths):
        keys, hidden = encoder(sentences, lengths)
        return hidden[0], keys.swapaxes(0, 1), np.arange(len(sentences)) < lengths[:, None]

    batches = data.Batches(
        [inputs[i] for i in parts.train], [targets[i] for i in parts.train], batch_size
    )
    for epoch in range(1, epochs + 1):
        total = 0.0
        for sentences, lengths, (words, _) in batches:
            logits, _, _ = decoder(words[:-1], *encode(sentences, lengths))  # teacher forcing
            loss = nn.cross_entropy(logits, words[1:], ignore_index=output_lang.pad)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        if epoch % 5 == 0:
            print(f"epoch {epoch}: loss {total / len(batches):.4f}")

    def translate(sentences, lengths, max_length=12):
        with mg.no_grad():
            hidden, *memory = encode(sentences, lengths)
            words = [np.full((1, len(lengths)), output_lang.begin)]
            weights = []
            for _ in range(max_length):
                logits, hidden, looked = decoder(words[-1], hidden, *memory)
                words.append(logits.numpy().argmax(axis=-1))
                weights.append(looked)
        return np.concatenate(words), np.concatenate(weights)

    encoder.eval()
    decoder.eval()
    words, weights = translate(*data.pad([inputs[i] for i in parts.test]))
    translated = [output_lang.decode(column) for column in words.T]
    wanted = [english.phrases[i].lower() for i in parts.test]
    for row, i in enumerate(parts.test[:3]):
        print(f"> {french.phrases[i]}\n= {wanted[row]}\n< {translated[row]}")
    print("attention, a row for each word written:\n", weights[:, 0].round(1))
    return float(np.mean([t == w for t, w in zip(translated, wanted, strict=True)]))


if __name__ == "__main__":
    print(f"days not trained on that are translated without a mistake: {main():.0%}")
