// Data as they are in the page: numbers that JSON has no word for, and packed arrays (pack.py).

const DATA = JSON.parse(document.getElementById("data").textContent);

const LINEAR_TOP = 65532;
const LOG_TOP = 32764;
const SIGN = 0x8000;

const toNumbers = (list) => Float64Array.from(list, Number); // "NaN", "Infinity" are words

function codesOf(base64) {
  const bytes = atob(base64);
  const codes = new Uint16Array(bytes.length / 2);
  for (let i = 0; i < codes.length; i += 1) {
    codes[i] = bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8);
  }
  return codes;
}

function fromLinear(code, lo, hi) {
  if (code === 65533) return -Infinity;
  if (code === 65534) return Infinity;
  if (code === 65535) return NaN;
  const share = code / LINEAR_TOP;
  return lo * (1 - share) + hi * share;
}

function fromLog(code, lo, hi) {
  const size = code & (SIGN - 1);
  if (size === 0) return 0;
  if (size === 32766) return NaN;
  const x = size === 32765 ? Infinity : 10 ** (lo + ((size - 1) / (LOG_TOP - 1)) * (hi - lo));
  return code & SIGN ? -x : x;
}

const unpacked = new WeakMap();

// {n, of, units, row(j), at(j, u), least, most}: entry j of time, unit u of those shown.
function unpack(packed) {
  if (unpacked.has(packed)) return unpacked.get(packed);
  const codes = codesOf(packed.data);
  const read = packed.code === "log" ? fromLog : fromLinear;
  const numbers = Float64Array.from(codes, (code) => read(code, packed.lo, packed.hi));
  const { n } = packed;
  const found = {
    n,
    of: packed.of,
    name: (u) => (packed.units ? packed.units[u] : u) + 1, // units are counted from 1
    row: (j) => numbers.subarray(j * n, (j + 1) * n),
    at: (j, u) => numbers[j * n + u],
    least: packed.code === "log" ? NaN : packed.lo,
    most: packed.code === "log" ? NaN : packed.hi,
  };
  unpacked.set(packed, found);
  return found;
}
