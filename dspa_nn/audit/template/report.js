"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [TEXT, STEERED, VOTERS, EDITS, STRONGEST, NORM, STREAM, LOGITS] = [0, 1, 2, 3, 4, 5, 6, 7];
  const panel = document.getElementById("panel");
  const heading = document.getElementById("panel-title");
  const details = document.getElementById("details");
  const sections = [...document.querySelectorAll("section.row")];
  const picker = document.getElementById("row");
  let row = 0;
  let chosen = null;

  // Everything is put in as text: nothing of the data is ever read as HTML.
  const make = (tag, attributes, ...children) => {
    const svg = ["svg", "rect"].includes(tag);
    const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "onclick") element.addEventListener("click", value);
      else if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };
  const number = (value, digits = 3) =>
    value === null ? "not a number" : value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-4
      ? value.toExponential(1) : String(Number(value.toPrecision(digits)));
  const signed = (value, digits = 3) => (value > 0 ? "+" : value < 0 ? "−" : "") + number(Math.abs(value), digits);
  const percent = (value) => `${(100 * value).toPrecision(value >= 0.1 ? 3 : 2)} %`;
  const chance = (value) => (value < 1e-4 ? "<0.01 %" : `${Number((100 * value).toPrecision(value < 0.1 ? 2 : 3))} %`);
  const written = (text) => text.replace(/^ /, "␣").replace(/\n/g, "↵");
  const chip = (text) => make("span", { class: "tok", dir: "auto" }, written(text) || "·");
  const meaning = (side, latent) => (data.meanings[side] || {})[latent] || { words: "" };
  const named = (side, latent) => {
    const words = meaning(side, latent).words;
    return words ? `${latent} · ${words}` : String(latent);
  };
  const direction = (sign) => (sign > 0 ? "▲ raised" : "▼ turned down");
  const tokens = () => data.rows[row].tokens;

  const bars = (before, after, most) => {
    const width = (value) => Math.max(0, Math.min(100, (100 * (value || 0)) / (most || 1)));
    const svg = make("svg", { viewBox: "0 0 100 16", preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(
      make("rect", { class: "before", x: 0, y: 1, width: width(before), height: 6 }),
      make("rect", { class: "after", x: 0, y: 9, width: width(after), height: 6 }),
    );
    return svg;
  };

  const editsOf = (token, index) => {
    const edits = token[EDITS];
    if (!edits.length) return [make("p", {}, "No planned latent was active here, so nothing was edited.")];
    const most = Math.max(token[STRONGEST] || 0, ...edits.flatMap(([, before, after]) => [before || 0, after || 0]));
    const list = make("ul", { class: "edits" });
    for (const [latent, before, after] of edits) {
      const known = data.rows[row].latents[latent] || { sign: after > before ? 1 : -1 };
      list.append(make("li", {},
        make("button", { type: "button", class: "open", onclick: () => openLatent(latent, index) }, named("output", latent)),
        make("span", { class: "values" }, `${known.sign > 0 ? "▲" : "▼"} ${number(before)} → ${number(after)}`),
        bars(before, after, most)));
    }
    return [make("h3", {}, "Latents edited here"),
      make("p", { class: "quiet" }, "Before (upper bar) and after (lower bar); the full width is the largest value at this token."), list];
  };

  const logitsOf = (token) => {
    const logits = token[LOGITS] || [];
    if (!logits.length) return [];
    const body = make("tbody", {});
    for (const [text, change, before, after] of logits) {
      body.append(make("tr", {}, make("td", {}, chip(text)), make("td", { class: "n" }, signed(change, 2)),
        make("td", { class: "n" }, `${chance(before)} → ${chance(after)}`)));
    }
    return [make("h3", {}, "Next tokens whose logits moved most"),
      make("p", { class: "quiet" }, "After this text, with and without the edits at all its tokens; less the mean change of all logits. Of tokens with a probability of 0.1 % or more."),
      make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "next token"),
        make("th", { scope: "col", class: "n" }, "logit"), make("th", { scope: "col", class: "n" }, "probability"))), body)];
  };

  const votersOf = (token) => {
    const voters = token[VOTERS] || [];
    if (!voters.length) return [];
    const list = make("ul", { class: "snippets" });
    for (const latent of voters.slice(0, 12)) list.append(make("li", {}, named("input", latent)));
    return [make("h3", {}, "Prompt latents active here that voted"), list,
      voters.length > 12 ? make("p", { class: "quiet" }, `and ${voters.length - 12} more`) : null];
  };

  const show = (title, ...parts) => {
    heading.textContent = title;
    details.replaceChildren(...parts.flat().filter((part) => part !== null));
    panel.hidden = false;
    document.body.classList.add("open");
    panel.scrollTop = 0;
    if (chosen) chosen.scrollIntoView({ block: "nearest" });
    heading.focus({ preventScroll: true });
  };

  const openToken = (index) => {
    const token = tokens()[index];
    if (!token || token.length < 2) return;
    mark(index);
    const facts = make("dl", { class: "facts" });
    const fact = (name, value) => facts.append(make("dt", {}, name), make("dd", {}, value));
    fact("token", chip(token[TEXT]));
    fact("place", `${index + 1} of ${tokens().length}`);
    if (token[STEERED]) {
      fact("edits", String(token[EDITS].length));
      fact("strongest latent, M_t", number(token[STRONGEST]));
      fact("moved", `${percent(token[STREAM] > 0 ? token[NORM] / token[STREAM] : 0)} of the stream's norm (${number(token[NORM])} of ${number(token[STREAM])})`);
    }
    show(`Token ${index + 1}`, facts, token[STEERED] ? editsOf(token, index) : make("p", {}, "This token is not steered."),
      token[STEERED] ? logitsOf(token) : [], votersOf(token));
  };

  const promptTokens = (latent) => tokens().map((token, index) => [token, index])
    .filter(([token]) => (token[VOTERS] || []).includes(latent));
  const chips = (latent) => {
    const found = promptTokens(latent);
    const parts = found.slice(0, 6).flatMap(([token]) => [chip(token[TEXT]), " "]);
    const counted = data.rows[row].counts[latent];
    if (!found.length) {
      parts.push(make("span", { class: "quiet" }, counted
        ? `active on ${counted} ${counted === 1 ? "token" : "tokens"}` : "not active on this prompt, which counts too"));
    }
    if (found.length > 6) parts.push(`and ${found.length - 6} more`);
    return parts;
  };

  const snippetsOf = (known) => {
    if (!known.snippets) return [];
    const list = make("ul", { class: "snippets" });
    for (const [before, token, after, strength] of known.snippets) {
      list.append(make("li", { dir: "auto" }, `… ${before}`, make("mark", {}, token), `${after} … `,
        make("span", { class: "quiet" }, `(${number(strength)})`)));
    }
    return [make("h3", {}, "Where it is strongest, in texts that the package brings or that were given"), list];
  };

  const wordsOf = (known) => {
    const facts = make("dl", { class: "facts" });
    const fact = (name, value) => facts.append(make("dt", {}, name), make("dd", {}, ...[value].flat()));
    if (known.explanation) fact(known.unreliable ? "explanation, called unreliable" : "explanation", known.explanation);
    if (known.evidence) fact("it rests on", known.evidence);
    if (known.category) fact("category", known.category);
    if (known.source) fact("explained by", known.source);
    if (known.note) fact("in doubt", known.note);
    if (known.promotes) fact("promotes", known.promotes.flatMap((word) => [chip(word), " "]));
    if (known.fires_on) fact("fires on", known.fires_on.flatMap((word) => [chip(word), " "]));
    if (known.link) fact("page", make("a", { href: known.link, rel: "noreferrer noopener", target: "_blank" }, "Neuronpedia"));
    return facts.childNodes.length ? [facts] : [make("p", { class: "quiet" }, "Nothing is known of this latent in words.")];
  };

  const pathOf = (latent, index) => {
    const planned = data.rows[row].latents[latent];
    const [, before, after] = (tokens()[index][EDITS] || []).find(([other]) => other === latent) || [0, null, null];
    if (!planned) return [];
    if (data.rows[row].same) {
      return [make("h3", {}, "Why it was chosen"), make("p", {},
        `Its score, ${signed(planned.score)}, is the same for every prompt: no prompt latent has a say in what was applied.`)];
    }
    if (!planned.votes.length) {
      return [make("h3", {}, "Why it was chosen"), make("p", {}, data.mapped
        ? "No prompt latent with an entry in the map voted for it."
        : `Its score was ${signed(planned.score)}. The report was made without the map, which says whose votes that is.`)];
    }
    const step = (what, ...parts) => make("li", {}, make("span", { class: "what" }, what), ...parts);
    // The largest vote in the score's direction of a latent that is active on the prompt.
    const active = planned.votes.find(([voter, , part]) => part * planned.score > 0 && data.rows[row].counts[voter]);
    const [voter, entry, adds] = active || planned.votes[0];
    const chain = make("ol", { class: "chain" },
      step("prompt tokens", ...chips(voter)),
      step("prompt latent, largest vote", named("input", voter)),
      step("entry of the map", `${signed(entry)}, which adds ${signed(adds)}`),
      step("output latent", `${named("output", latent)}: score ${signed(planned.score)}, ${direction(planned.sign)}`),
      step("this token", chip(tokens()[index][TEXT]), before === null ? "" : ` ${number(before)} → ${number(after)}`));
    const body = make("tbody", {});
    for (const [other, value, part] of planned.votes) {
      const known = meaning("input", other);
      const cell = make("td", {}, named("input", other), make("div", {}, ...chips(other)));
      if (known.snippets) cell.append(make("details", {}, make("summary", { class: "quiet" }, "places"), ...snippetsOf(known).slice(1)));
      body.append(make("tr", {}, cell, make("td", { class: "n" }, signed(value)), make("td", { class: "n" }, signed(part))));
    }
    const rest = planned.more ? ` ${planned.more} more add ${signed(planned.rest)}.` : "";
    return [make("h3", {}, "Why it was chosen"), chain, make("h3", {}, "All its votes"),
      make("p", { class: "quiet" }, `Prompt latents with an entry for it, the largest part first; all parts come to its score, ${signed(planned.score)}.${rest}`),
      make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "prompt latent, and tokens it is active on"),
        make("th", { scope: "col", class: "n" }, "entry"), make("th", { scope: "col", class: "n" }, "adds"))), body)];
  };

  const openLatent = (latent, index) => {
    const known = meaning("output", latent);
    const times = tokens().filter((token) => token[STEERED] && token[EDITS].some(([other]) => other === latent)).length;
    show(`Output latent ${latent}`,
      make("button", { type: "button", onclick: () => openToken(index) }, "◀ Back to the token"),
      make("p", {}, `Edited on ${times} ${times === 1 ? "token" : "tokens"} of this row.`),
      wordsOf(known), pathOf(latent, index), snippetsOf(known));
  };

  // One token of a row is in the tab order at a time; arrow keys move to the others.
  const buttons = () => [...sections[row].querySelectorAll(".tokens .t[role=button]")];
  const enter = (button) => {
    for (const other of sections[row].querySelectorAll(".t[tabindex='0']")) other.tabIndex = -1;
    button.tabIndex = 0;
  };
  const mark = (index) => {
    if (chosen) chosen.removeAttribute("aria-pressed");
    chosen = sections[row].querySelector(`.t[data-i="${index}"]`);
    if (chosen) { chosen.setAttribute("aria-pressed", "true"); enter(chosen); }
  };
  const close = () => {
    panel.hidden = true;
    document.body.classList.remove("open");
    if (chosen) { chosen.removeAttribute("aria-pressed"); chosen.focus({ preventScroll: true }); chosen = null; }
  };
  const showRow = (next) => {
    row = Math.max(0, Math.min(sections.length - 1, next));
    if (!panel.hidden) close();
    sections.forEach((section, index) => { section.hidden = index !== row; });
    if (picker) picker.value = String(row);
    const first = buttons()[0];
    if (first && !sections[row].querySelector(".t[tabindex='0']")) first.tabIndex = 0;
  };

  document.querySelector("main").addEventListener("click", (event) => {
    const token = event.target.closest(".tokens .t[role=button]");
    if (token) return openToken(Number(token.dataset.i));
    const strip = event.target.closest(".strip");
    if (!strip) return undefined;
    const box = strip.getBoundingClientRect();
    const at = Math.floor(((event.clientX - box.left) / box.width) * tokens().length);
    const near = buttons().map((button) => Number(button.dataset.i));
    return near.length ? openToken(near.reduce((best, one) => (Math.abs(one - at) < Math.abs(best - at) ? one : best))) : undefined;
  });
  document.querySelector("main").addEventListener("keydown", (event) => {
    const token = event.target.closest && event.target.closest(".tokens .t[role=button]");
    if (!token) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); openToken(Number(token.dataset.i)); return; }
    const all = buttons();
    const at = all.indexOf(token);
    const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined || !all[next]) return;
    event.preventDefault();
    enter(all[next]);
    all[next].focus();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !panel.hidden) close(); });
  document.getElementById("close").addEventListener("click", close);
  if (picker) {
    picker.addEventListener("change", () => showRow(Number(picker.value)));
    document.getElementById("previous").addEventListener("click", () => showRow(row - 1));
    document.getElementById("next").addEventListener("click", () => showRow(row + 1));
  }
  showRow(0);
})();
