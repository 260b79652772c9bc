"use strict";
// Scripts of data/ call page.about, page.images, page.words and others; a page from a disk may load scripts, not fetch.
const page = (() => {
  const STEP = 60, MOST = 600, HINTS = 12, LONGEST_ENTRY = 3;
  const WORD = /[\p{L}\p{N}\p{M}\u200c\u200d]+(?:['\u2019.\-][\p{L}\p{N}\p{M}\u200c\u200d]+)*/gu;
  const NO_SPACES = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
  const element = (id) => document.getElementById(id);
  const query = element("query"), grid = element("grid"), status = element("status"), hints = element("hints"), detail = element("detail");
  const table = (rows, numbers) => ({ name: new Array(rows), value: new Int8Array(rows * numbers), scale: new Float32Array(rows), ready: 0, failed: 0 });
  let about, images, words, tower, thumbnail, number, ignored, order = [], score = null, shown = 0, like = -1, opened = -1, timer = 0, latest = { spent: 0 };

  // ---- data -------------------------------------------------------------------------------------------------------
  function fill(into, part, content) {
    const start = part * about.rows;
    into.value.set(new Int8Array(numbersOf(content.value)), start * about.numbers);
    into.scale.set(new Float32Array(numbersOf(content.scale)), start);
    content.name.forEach((name, row) => { into.name[start + row] = name; });
    into.ready += content.name.length;
    return start;
  }

  const script = (file) => new Promise((done) => {
    const tag = document.createElement("script");
    tag.src = file;
    tag.onload = () => done(true);
    tag.onerror = () => done(false);
    document.head.append(tag);
    tag.addEventListener("load", () => tag.remove());
  });

  async function load() {
    if (!await script("data/about.js") || !about) {
      say("The folder data/ beside this page is missing or damaged.");
      return;
    }
    const files = (kind, count) => Array.from({ length: Math.ceil(count / about.rows) }, (_, part) => [kind, part]);
    const [first, ...others] = files("images", about.images);
    const tables = { images, words }, scripts = Array.from({ length: tower ? about.tower.scripts : 0 }, (_, part) => ["tower", part]);
    for (const [kind, part] of [first, ...files("words", about.words), ...scripts, ...others]) {
      if (!await script(`data/${kind}-${part}.js`)) (tables[kind] || words).failed += 1;
      search(false);
    }
    document.documentElement.dataset.ready = "yes";
  }

  // ---- queries ----------------------------------------------------------------------------------------------------
  const plain = (text) => text.normalize("NFC").toLowerCase().replace(/_/g, " ");

  function completions(prefix, most) {
    const found = [];
    for (let row = 0; row < words.name.length && found.length < most; row++) {
      if (words.name[row] && words.name[row].startsWith(prefix) && words.name[row] !== prefix) found.push(words.name[row]);
    }
    return found;
  }

  // The entries of a text: the longest that match, word by word; a script without spaces is parted into entries.
  function read(text) {
    const tokens = plain(text).match(WORD) || [], result = { rows: [], names: [], unknown: [], ignored: [], completed: "" };
    const add = (name) => { result.rows.push(number.get(name)); result.names.push(name); };
    for (let at = 0; at < tokens.length;) {
      let length = Math.min(LONGEST_ENTRY, tokens.length - at);
      while (length && !number.has(tokens.slice(at, at + length).join(" "))) length--;
      if (length) {
        add(tokens.slice(at, at + length).join(" "));
        at += length;
        continue;
      }
      const token = tokens[at++];
      if (ignored.has(token)) result.ignored.push(token);
      else if (NO_SPACES.test(token)) parted(token, add, result);
      else if (at === tokens.length && /[\p{L}\p{N}\p{M}]$/u.test(text) && token.length > 1 && completions(token, 1).length) {
        result.completed = completions(token, 1)[0];
        add(result.completed);
      } else {
        const parts = token.split(/['\u2019.\-]/u).filter((each) => each && !ignored.has(each));
        if (parts.length > 1 && parts.every((each) => number.has(each))) parts.forEach(add);
        else result.unknown.push(token);
      }
    }
    return result;
  }

  function parted(token, add, result) {
    const letters = [...token];
    let unknown = "";
    for (let at = 0; at < letters.length;) {
      let length = letters.length - at;
      while (length && !number.has(letters.slice(at, at + length).join(""))) length--;
      if (length) add(letters.slice(at, at + length).join(""));
      else unknown += letters[at];
      at += Math.max(1, length);
    }
    if (unknown) result.unknown.push(unknown);
  }

  // The text that is asked for, with its last word completed.
  function asked(text, { completed }) {
    const tokens = plain(text).match(WORD) || [], end = completed ? tokens[tokens.length - 1].length : 0;
    return (text.slice(0, text.length - end) + completed).trim().replace(/\s+/g, " ");
  }

  // An entry as it is stored, another text by the text tower; without one the mean of its entries at length 1.
  function wanted(text, result) {
    const { rows, names, unknown } = result;
    if (!rows.length && !unknown.length) return null;
    if (rows.length === 1 && plain(text) === names[0]) return vector(rows, words);
    result.whole = Boolean(tower && tower.ready());
    if (result.whole) return embedded(text);
    return rows.length ? vector(rows, words) : null;
  }

  // The embedding of the latest text is kept: the same one is asked for again while files are read.
  function embedded(text) {
    if (latest.text !== text) {
      const start = performance.now();
      latest = { text, embedding: tower.embed(text), spent: performance.now() - start };
    }
    return latest.embedding;
  }

  function vector(rows, from) {
    const sum = new Float64Array(about.numbers);
    for (const row of rows) {
      for (let d = 0; d < sum.length; d++) sum[d] += from.value[row * sum.length + d] * from.scale[row];
    }
    if (rows.length > 1) {
      const length = Math.hypot(...sum) || 1;
      for (let d = 0; d < sum.length; d++) sum[d] /= length;
    }
    return sum;
  }

  function rank(wanted) {
    const count = images.name.length, width = about.numbers, value = images.value, scores = new Float64Array(count);
    for (let row = 0, at = 0; row < count; row++, at += width) {
      let sum = 0;
      for (let d = 0; d < width; d++) sum += value[at + d] * wanted[d];
      scores[row] = images.name[row] === undefined ? -Infinity : sum * images.scale[row];
    }
    const least = count > MOST ? Float64Array.from(scores).sort()[count - MOST] : -Infinity;
    const best = [];
    for (let row = 0; row < count; row++) if (scores[row] >= least && scores[row] !== -Infinity) best.push(row);
    best.sort((a, b) => scores[b] - scores[a] || a - b);
    return { best: best.slice(0, MOST), scores };
  }

  function search(fresh = true) {
    if (!images) return;
    const text = query.value, result = read(text), before = order;
    const asks = like >= 0 ? vector([like], images) : wanted(asked(text, result), result);
    if (asks) {
      const ranked = rank(asks);
      [order, score] = [ranked.best.filter((row) => row !== like), ranked.scores];
    } else {
      score = null;
      order = plain(text).trim() ? [] : [...images.name.keys()].filter((row) => images.name[row] !== undefined).slice(0, MOST);
    }
    describe(text, result);
    suggest(text, result);
    if (fresh || order.length !== before.length || order.some((row, at) => row !== before[at])) draw();
    document.documentElement.dataset.answered = like >= 0 ? `like ${images.name[like]}` : text;
  }

  // ---- what is shown ----------------------------------------------------------------------------------------------
  const format = (count) => count.toLocaleString("en");

  function say(text, badge) {
    status.textContent = "";
    if (badge) {
      const mark = document.createElement("span");
      mark.className = "badge";
      mark.textContent = badge;
      status.append(mark, " ");
    }
    status.append(text);
  }

  function estimated(names) {
    const known = !about.tower && about.kept_phrases !== null;
    const how = known ? `; about ${Math.round(10 * about.kept_phrases)} of the ten best images are those of the full text tower` : "";
    return `estimated from its words: ${names.join(" + ")}${how}`;
  }

  function describe(text, result) {
    const parts = [], total = images.name.length;
    let badge = "";
    if (like >= 0) parts.push(`Images like ${images.name[like]}. Type or press Esc to go back.`);
    else if (!plain(text).trim()) parts.push(`${format(total)} images. Type words, alone or several.`);
    else if (!result.rows.length && !result.unknown.length) parts.push("Type a word for something that can be seen.");
    else if (result.completed) parts.push(`Completed to “${result.completed}”.`);
    else if (score && (result.whole || result.rows.length === 1)) parts.push(`“${asked(text, result)}”.`);
    if (like < 0 && score && !result.whole && result.rows.length > 1) badge = estimated(result.names);
    if (like < 0 && result.unknown.length) {
      const how = score && result.whole ? "Not among the words of this page, and read by parts of words" : "Unknown to this page";
      parts.push(`${how}: ${result.unknown.join(", ")}.`);
    }
    if (like < 0 && result.ignored.length && result.rows.length && !result.whole) parts.push(`Left out: ${result.ignored.join(", ")}.`);
    if (images.ready < total) parts.push(`${format(images.ready)} of ${format(total)} images are read.`);
    if (images.failed || words.failed) parts.push("Files of data/ are missing, so results are incomplete.");
    say(parts.join(" "), badge);
  }

  function suggest(text, result) {
    const tokens = plain(text).match(WORD) || [], last = tokens[tokens.length - 1];
    const ends = /[\p{L}\p{N}\p{M}]$/u.test(text);
    const names = !tokens.length ? words.name.slice(0, HINTS).filter(Boolean) : ends && last.length > 1 ? completions(last, HINTS) : [];
    hints.replaceChildren(...names.map((name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => {
        query.value = tokens.length ? text.slice(0, text.length - last.length) + name : name;
        [like] = [-1];
        query.focus();
        search();
      });
      return button;
    }));
  }

  function tile(row) {
    const item = document.createElement("li"), button = document.createElement("button"), image = document.createElement("img");
    const label = document.createElement("span"), name = document.createElement("bdi");
    button.type = "button";
    button.dataset.row = row;
    button.title = images.name[row];
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = "";
    image.addEventListener("error", () => button.classList.add("absent"));
    image.src = `thumbnails/${thumbnail[row]}`;
    name.textContent = images.name[row];
    label.append(name);
    button.append(image, label);
    item.append(button);
    return item;
  }

  function draw() {
    shown = 0;
    grid.replaceChildren();
    extend();
  }

  function extend() {
    const next = order.slice(shown, shown + STEP);
    grid.append(...next.map(tile));
    shown += next.length;
  }

  const tiles = () => [...grid.querySelectorAll("button")];

  function open(row) {
    opened = row;
    element("detail-image").src = `thumbnails/${thumbnail[row]}`;
    element("detail-name").textContent = images.name[row];
    element("detail-score").textContent = score ? `cosine ${score[row].toFixed(3)}, rank ${format(order.indexOf(row) + 1)}` : "";
    const original = element("original"), target = originalOf(row);
    original.hidden = !target;
    if (target) original.href = target;
    if (!detail.open) detail.showModal();
  }

  function originalOf(row) {
    if (!about.originals) return "";
    try {
      return `./${about.originals}/${images.name[row]}`.split("/").map(encodeURIComponent).join("/");
    } catch {  // a name that is not Unicode
      return "";
    }
  }

  function moreLike(row) {
    if (detail.open) detail.close();
    query.value = "";
    like = row;
    search();
    window.scrollTo(0, 0);
    const first = tiles()[0];
    if (first) first.focus();
  }

  function back() {
    if (like < 0 && !query.value) query.blur();
    else {
      like = -1;
      query.value = "";
      search();
      query.focus();
    }
  }

  // ---- keys -------------------------------------------------------------------------------------------------------
  const MOVES = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: (columns) => columns, ArrowUp: (columns) => -columns };

  function move(event, from) {
    const all = tiles(), top = all[0].offsetTop;
    const after = all.findIndex((each) => each.offsetTop > top), columns = after < 0 ? all.length : after;
    const at = all.indexOf(from), wanted = at + MOVES[event.key](columns);
    event.preventDefault();
    if (wanted >= all.length && shown < order.length) {
      extend();
      move(event, from);
    } else if (all[wanted]) all[wanted].focus();
    else if (event.key === "ArrowUp") query.focus();
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !images) return;
    const on = event.target.closest("#grid button"), typing = event.target === query;
    if (detail.open) {
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0, next = order[order.indexOf(opened) + step];
      if (step && next !== undefined) open(next);
      else if (event.key === "m") moreLike(opened);
    } else if (event.key === "/" && !typing) {
      event.preventDefault();
      query.focus();
      query.select();
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (on && like < 0) query.focus();
      else back();
    } else if (typing && (event.key === "ArrowDown" || event.key === "Enter")) {
      const first = tiles()[0];
      event.preventDefault();
      if (first) first.focus();
    } else if (on && event.key in MOVES) move(event, on);
    else if (on && event.key === "m") moreLike(Number(on.dataset.row));
  }

  document.addEventListener("keydown", pressed);
  query.addEventListener("input", () => {
    like = -1;
    clearTimeout(timer);
    timer = setTimeout(search, Math.max(40, latest.spent));  // a large text tower reads when one stops typing
  });
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(Number(button.dataset.row));
  });
  element("more").addEventListener("click", () => moreLike(opened));
  element("close").addEventListener("click", () => detail.close());
  detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
  detail.addEventListener("close", () => {
    const button = grid.querySelector(`button[data-row="${opened}"]`);
    if (button) button.focus();
  });
  new IntersectionObserver((entries) => { if (entries.some((each) => each.isIntersecting)) extend(); }, { rootMargin: "600px" }).observe(element("end"));

  setTimeout(load);
  return {
    about(content) {
      about = content;
      images = table(about.images, about.numbers);
      words = table(about.words, about.numbers);
      tower = about.tower && textTower(about.tower);
      thumbnail = new Array(about.images);
      number = new Map();
      ignored = new Set(about.ignored);
      document.title = `Search: ${about.title}`;
      element("title").textContent = `${about.title}: ${format(about.images)} images, ${format(about.words)} words`;
      const percent = (share) => `${Math.round(100 * share)}%`, phrases = about.kept_phrases === null ? "" : `, of a phrase ${percent(about.kept_phrases)}`;
      const how = tower ? "Phrases are read by the text tower in eight bits." : "Results of several words are estimates.";
      element("facts").textContent = `${about.numbers} numbers of eight bits for each image; of the ten best images of a word, ${percent(about.kept_best)} are those of the full embeddings${phrases}. ${how} ${about.attribution}`;
      if (about.unreadable) {
        const problems = element("problems");
        problems.hidden = false;
        problems.querySelector("summary").textContent = `${format(about.unreadable)} images could not be read`;
        problems.querySelector("ul").append(...about.problems.map(({ name, reason }) => {
          const item = document.createElement("li");
          item.textContent = `${name}: ${reason}`;
          return item;
        }));
      }
    },
    images(part, content) {
      const start = fill(images, part, content);
      content.thumbnail.forEach((name, row) => { thumbnail[start + row] = name; });
    },
    words(part, content) {
      const start = fill(words, part, content);
      content.name.forEach((name, row) => number.set(name, start + row));
    },
    pieces: (content) => tower.pieces(content),
    vectors: (content) => tower.vectors(content),
    weights: (content) => tower.weights(content),
    // for checks: the text tower, the rows of the best images, and their scores
    best: () => ({ rows: order, scores: score && order.map((row) => score[row]) }),
    textTower: () => tower,
  };
})();
