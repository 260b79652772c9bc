"use strict";
// The text tower with weights in eight bits: a text's pieces, a post-norm transformer over them, an embedding.
// models/text_tower.py is its definition; a matrix is rows of whole numbers, each with a scale.

// The buffer that base64 stands for.
function numbersOf(text) {
  const letters = atob(text), values = new Uint8Array(letters.length);
  for (let at = 0; at < values.length; at++) values[at] = letters.charCodeAt(at);
  return values.buffer;
}

const textTower = (() => {
  const START = 0, END = 2, UNKNOWN = 3, UNKNOWN_COST = 10, LONGEST_WORD = 100;

  // ---- pieces -----------------------------------------------------------------------------------------------------
  // SentencePiece's normalisation nmt_nfkc; its letter U+FF5E stays as it is.
  const nfkc = (text) => text
    .replace(/[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g, "")
    .replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, " ")
    .split("\uff5e").map((part) => part.normalize("NFKC")).join("\uff5e");

  // SentencePiece's unigram model: the pieces with the largest sum of scores; unknown ones in a row are one piece.
  function unigram({ number, score, longest, unknown }) {
    return (text) => {
      const words = nfkc(text).split(" ").filter(Boolean);
      if (!words.length) return [];
      const letters = [..."\u2581" + words.join("\u2581")], best = [{ score: 0 }];
      for (let from = 0; from < letters.length; from++) {
        const reach = (to, piece, cost) => {
          const sum = Math.fround(best[from].score + cost);
          if (!best[to] || sum > best[to].score) best[to] = { score: sum, from, piece };
        };
        let text = "", single = false;
        for (let to = from + 1; to <= Math.min(letters.length, from + longest); to++) {
          text += letters[to - 1];
          const piece = number.get(text);
          if (piece === undefined) continue;
          reach(to, piece, score[piece]);
          single ||= to === from + 1;
        }
        if (!single) reach(from + 1, UNKNOWN, unknown);
      }
      const ids = [];
      for (let at = letters.length; at; at = best[at].from) {
        if (best[at].piece !== UNKNOWN || ids[0] !== UNKNOWN) ids.unshift(best[at].piece);
      }
      return ids;
    };
  }

  const PUNCTUATION = /[!-/:-@[-`{-~]|\p{P}/u;
  const IDEOGRAPH = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b820}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

  // BERT's WordPiece: the longest piece that a word begins with, then the longest ##piece; a word may be unknown.
  function wordPiece({ number, lowercase, strip_accents }) {
    const tokens = (text) => {
      text = text.replace(/[\t\n\r]/g, " ").replace(/[\p{Cc}\p{Cf}\p{Cn}\p{Co}\ufffd]/gu, "");
      text = text.replace(/[\p{Z}]/gu, " ").replace(IDEOGRAPH, " $& ");
      if (strip_accents) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
      const letters = [...text].map((letter) => lowercase ? letter.toLowerCase() : letter);
      const spaced = letters.map((letter) => PUNCTUATION.test(letter) ? ` ${letter} ` : letter).join("");
      return spaced.split(" ").filter(Boolean);
    };
    return (text) => tokens(text).flatMap((token) => {
      const letters = [...token], ids = [];
      for (let at = 0; at < letters.length;) {
        let to = letters.length > LONGEST_WORD ? at : letters.length;
        const piece = () => number.get((at ? "##" : "") + letters.slice(at, to).join(""));
        while (to > at && piece() === undefined) to--;
        if (to === at) return [UNKNOWN];
        ids.push(piece());
        at = to;
      }
      return ids;
    });
  }

  // ---- numbers ----------------------------------------------------------------------------------------------------
  function row(matrix, at) {
    const { value, scale, columns } = matrix;
    return Float64Array.from({ length: columns }, (_, d) => value[at * columns + d] * scale[at]);
  }

  // A matrix times each of some vectors; four sums, which do not wait for each other, take half the time of one.
  function times({ value, scale, columns }, vectors, bias) {
    const products = vectors.map(() => new Float64Array(scale.length));
    const weight = new Float64Array(columns), whole = columns - columns % 4;
    for (let r = 0; r < scale.length; r++) {
      for (let d = 0, at = r * columns; d < columns; d++) weight[d] = value[at + d];
      vectors.forEach((x, number) => {
        let a = 0, b = 0, c = 0, e = 0;
        for (let d = 0; d < whole; d += 4) {
          a += weight[d] * x[d];
          b += weight[d + 1] * x[d + 1];
          c += weight[d + 2] * x[d + 2];
          e += weight[d + 3] * x[d + 3];
        }
        for (let d = whole; d < columns; d++) a += weight[d] * x[d];
        products[number][r] = (a + b + c + e) * scale[r] + (bias ? bias[r] : 0);
      });
    }
    return products;
  }

  const sum = (a, b) => a.map((each, d) => each + b[d]);

  function normed(x, weight, bias, eps) {
    let mean = 0, variance = 0;
    for (const each of x) mean += each / x.length;
    for (const each of x) variance += (each - mean) ** 2 / x.length;
    const factor = 1 / Math.sqrt(variance + eps);
    return x.map((each, d) => (each - mean) * factor * weight[d] + bias[d]);
  }

  // x times the normal distribution function; the error function after Abramowitz and Stegun 7.1.26, to 2e-7.
  function gelu(x) {
    const z = Math.abs(x) / Math.SQRT2, t = 1 / (1 + 0.3275911 * z);
    const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    const erf = Math.sign(x) * (1 - tail * Math.exp(-z * z));
    return 0.5 * x * (1 + erf);
  }

  function attention(qkv, heads) {
    const width = qkv[0].length / 3, each = width / heads;
    return qkv.map((from) => {
      const mixed = new Float64Array(width);
      for (let head = 0; head < heads; head++) {
        const start = head * each;
        const scores = qkv.map((to) => {
          let score = 0;
          for (let d = start; d < start + each; d++) score += from[d] * to[width + d];
          return score / Math.sqrt(each);
        });
        const most = Math.max(...scores), weights = scores.map((score) => Math.exp(score - most));
        const total = weights.reduce((a, b) => a + b);
        qkv.forEach((to, at) => {
          for (let d = start; d < start + each; d++) mixed[d] += weights[at] / total * to[2 * width + d];
        });
      }
      return mixed;
    });
  }

  function lengthOne(x) {
    const length = Math.sqrt(x.reduce((total, each) => total + each * each, 0)) || 1;
    return x.map((each) => each / length);
  }

  // ---- the tower --------------------------------------------------------------------------------------------------
  return (form) => {
    const weights = new Map(Object.entries(form.matrices).map(([name, [rows, columns]]) => [
      name, { value: new Int8Array(rows * columns), scale: new Float32Array(rows), columns },
    ]));
    const norm = (name, x) => normed(x, weights.get(`${name}.weight`), weights.get(`${name}.bias`), form.norm_eps);
    const linear = (name, x) => times(weights.get(`${name}.weight`), x, weights.get(`${name}.bias`));
    let missing = form.scripts, read;

    function features(ids) {
      const embeddings = weights.get("token_embed.weight"), positions = weights.get("pos_embed.weight");
      let x = ids.map((id, at) => norm("norm", sum(row(embeddings, id), row(positions, at + form.first_position))));
      for (let block = 0; block < form.depth; block++) {
        const name = `blocks.${block}`;
        const mixed = linear(`${name}.attn.proj`, attention(linear(`${name}.attn.qkv`, x), form.heads));
        x = x.map((each, at) => norm(`${name}.norm1`, sum(each, mixed[at])));
        const changed = linear(`${name}.mlp.fc2`, linear(`${name}.mlp.fc1`, x).map((each) => each.map(gelu)));
        x = x.map((each, at) => norm(`${name}.norm2`, sum(each, changed[at])));
      }
      return x;
    }

    return {
      ready: () => !missing,
      weights(parts) {
        for (const { name, start, value, scale } of parts) {
          const matrix = weights.get(name);
          matrix.value.set(new Int8Array(numbersOf(value)), start * matrix.columns);
          matrix.scale.set(new Float32Array(numbersOf(scale)), start);
        }
        missing -= 1;
      },
      vectors(named) {
        for (const [name, value] of Object.entries(named)) weights.set(name, new Float32Array(numbersOf(value)));
        missing -= 1;
      },
      pieces({ piece, score, ...rule }) {
        const number = new Map();
        piece.forEach((text, id) => { if (text) number.set(text, id); });
        const scores = score && new Float32Array(numbersOf(score));
        const longest = piece.reduce((most, text) => Math.max(most, [...text].length), 0);
        const unknown = scores && Math.fround(scores.reduce((least, each) => Math.min(least, each), 0) - UNKNOWN_COST);
        read = rule.kind === "unigram" ? unigram({ number, score: scores, longest, unknown }) : wordPiece({ number, ...rule });
        missing -= 1;
      },
      ids: (text) => [START, ...read(text).slice(0, form.context), END],
      // The embedding at length 1 in the page's numbers, or null for a text of which no letter is known.
      embed(text) {
        const ids = this.ids(text), unknown = ids.filter((id) => id === UNKNOWN).length;
        if (ids.length === 2) return null; // of blanks without width alone
        if (unknown && ids.length - 2 - unknown <= text.split(/\s+/).filter(Boolean).length) return null;
        const x = features(ids), pooled = form.pooling === "first" ? x[0] : x.reduce(sum).map((each) => each / x.length);
        const embedding = lengthOne(times(weights.get("projection"), [pooled])[0]);
        return weights.has("axes") ? times(weights.get("axes"), [embedding])[0] : embedding;
      },
    };
  };
})();
