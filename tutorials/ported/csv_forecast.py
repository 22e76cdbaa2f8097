"""Keras' weather forecast from a CSV file: the highest temperature in a week, by an LSTM.

After "Timeseries forecasting for weather prediction" (keras-io, timeseries). The file holds four
years of days in Seattle; give it yours: `python tutorials/ported/csv_forecast.py FILE.csv`.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim

FEATURES = ["precipitation", "temp_max", "temp_min", "wind"]
TARGET = FEATURES.index("temp_max")


class Forecaster(nn.Module):
    def __init__(self, features, hidden_size=32):
        self.lstm = nn.LSTM(features, hidden_size, return_sequences=False)
        self.dense = nn.Linear(hidden_size, 1)

    def forward(self, past):  # (T, B, features) -> (B,)
        return self.dense(self.lstm(past)[0])[:, 0]


def loss(model, batch):
    past, _, following = batch  # following: (B, ahead, features)
    return nn.mse_loss(model(past), following[:, -1, TARGET])


def main(path=None, past=30, ahead=7, epochs=30, batch_size=64, lr=5e-3):
    mg.seed(0)
    if path is None:
        path = Path("weather.csv")
        path.write_bytes(gzip.decompress(data.SOURCES["weather"].file.read_bytes()))
    series = data.read_csv(path, FEATURES)
    print("read:", series)
    windows = data.forecasting(series.filled(), past, ahead, dtype=np.float32)
    scaler = windows.scaler[TARGET]

    def error(predicted, part):
        """Mean absolute error in the unit of the file."""
        gap = np.abs(predicted - part.ys[-1, :, TARGET])
        return float(gap.mean() * scaler.std[0])

    def evaluate(part):
        with mg.no_grad():
            return error(model(part.xs).numpy(), part)

    model = Forecaster(len(FEATURES))
    batches = data.Batches(windows.train, batch=batch_size)
    fitted = mg.train.fit(
        model, loss, batches, optim.Adam(model.parameters(), lr=lr), epochs=epochs,
        validate=lambda: {"error": evaluate(windows.valid)}, metric="error", patience=5,
        progress=False,
    )  # fmt: skip
    mg.train.save("forecast.ckpt", {"model": model.state_dict()})  # the best of all epochs
    for row in fitted.history:
        print(f"epoch {row['epoch']}: error {row['error']:.2f}")

    with mg.no_grad():
        predicted = scaler.inverse(model(windows.test.xs[:, :5]).numpy())
    true = scaler.inverse(windows.test.ys[-1, :5, TARGET])
    print("predicted", predicted.round(1), "true", true.round(1))
    return evaluate(windows.test), error(windows.test.xs[-1, :, TARGET], windows.test)


if __name__ == "__main__":
    mine, today = main(*sys.argv[1:])
    print(f"mean absolute error {mine:.2f}, of today's value again {today:.2f}")
