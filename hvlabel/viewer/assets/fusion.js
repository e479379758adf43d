// The rule of hvlabel/fusion.py on a page's candidates, operation by operation in float64: what it keeps is what
// `hvlabel fuse` keeps.

// Of every candidate the others that it shares pixels with: [other, IoU]
function neighboursOf(candidates, pairs) {
  const n = candidates.area.length;
  const nPairs = pairs.length / 3;
  const neighbours = Array.from({ length: n }, () => []);
  for (let k = 0; k < nPairs; k++) {
    const [a, b, common] = [pairs[k], pairs[nPairs + k], pairs[2 * nPairs + k]];
    const iou = common / (candidates.area[a] + candidates.area[b] - common);
    neighbours[a].push([b, iou]);
    neighbours[b].push([a, iou]);
  }
  return neighbours;
}

// Best first: score, then area, then branch name, then position
function ranked(items, scoreOf, candidates) {
  const { area, branch } = candidates;
  const scores = new Map(items.map((k) => [k, scoreOf(k)]));
  const byName = (a, b) => (branch[a] < branch[b] ? -1 : branch[a] > branch[b] ? 1 : 0);
  return [...items].sort((a, b) => scores.get(b) - scores.get(a) || area[b] - area[a] || byName(a, b));
}

// order: candidates, best first. Returns those kept, in order, and for each other one [winner, IoU]
function suppress(order, neighbours, threshold) {
  const kept = [];
  const lost = new Map();
  const waiting = new Set(order);
  for (const k of order) {
    if (!waiting.delete(k)) continue;
    kept.push(k);
    for (const [other, iou] of neighbours[k]) {
      if (iou > threshold && waiting.delete(other)) lost.set(other, [k, iou]);
    }
  }
  return { kept, lost };
}

function nestedCopies(kept, strengthOf, neighbours, leastIou, candidates, rule) {
  const place = new Map(kept.map((k, position) => [k, position]));
  const copies = new Map();
  for (const [position, k] of kept.entries()) {
    let first = null;
    for (const [other, iou] of neighbours[k]) {
      if (!(iou > leastIou) || !(place.get(other) < position) || copies.has(other)) continue;
      const areas = [candidates.area[k], candidates.area[other]];
      const common = (iou * (areas[0] + areas[1])) / (1 + iou);
      const isNested = common >= rule.nested_share * Math.max(Math.min(...areas), 1);
      const isWorse = strengthOf(other) * rule.clearly_worse > strengthOf(k);
      if (isNested && isWorse && (first === null || place.get(other) < place.get(first[0]))) first = [other, iou];
    }
    if (first !== null) copies.set(k, first);
  }
  return copies;
}

// How many masks, from the first on, cover a share of what all cover. piecesOfCandidate: as of masks.js
function covering(order, share, piecesOfCandidate, height, width) {
  const union = new Uint8Array(height * width);
  let covered = 0;
  const coveredBy = order.map((k) => {
    const pieces = piecesOfCandidate(k);
    for (let p = 0; p < pieces.length; p += 3) {
      for (let at = pieces[p] * height + pieces[p + 1]; at < pieces[p] * height + pieces[p + 2]; at++) {
        covered += 1 - union[at];
        union[at] = 1;
      }
    }
    return covered;
  });
  return 1 + coveredBy.findIndex((px) => px >= share * covered);
}

// page: {branches, candidates, neighbours, rule, height, width, piecesOfCandidate}; settings: of the fusion.
// Returns kept: [{candidate, score, votes}], best first, and lost: Map candidate -> {reason, by, iou}
function fuse(page, settings) {
  const { candidates, neighbours, rule } = page;
  const byQuality = settings.ranking === "quality";
  const ownShare = byQuality ? rule.own_word : 0;
  const valueOf = (k) => (byQuality ? candidates.expected[k] : candidates.score[k]);
  const weightOf = (k) => settings.weights[candidates.branch[k]] ?? 1;
  const strengthOf = (k) => ((valueOf(k) + ownShare * candidates.score[k]) / (1 + ownShare)) * weightOf(k);

  const refused = new Map();
  const entered = [];
  for (let k = 0; k < candidates.area.length; k++) {
    if (candidates.area[k] < settings.min_area_px) refused.set(k, "small");
    else if (byQuality && valueOf(k) < settings.min_quality) refused.set(k, "poor");
    else entered.push(k);
  }
  const order = ranked(entered, strengthOf, candidates);
  const { kept: first, lost } = suppress(order, neighbours, settings.iou_threshold);
  const nested = byQuality
    ? nestedCopies(first, strengthOf, neighbours, settings.nested_iou, candidates, rule)
    : new Map();
  const kept = first.filter((k) => !nested.has(k));
  const beaten = new Map(nested);
  for (const [loser, [winner, iou]] of lost) {
    const heir = nested.has(winner) ? nested.get(winner)[0] : winner;
    beaten.set(loser, [heir, heir === winner ? iou : iouBetween(neighbours, loser, heir)]);
  }

  const votes = new Map(kept.map((k) => [k, new Set([candidates.branch[k]])]));
  for (const [loser, [winner]] of beaten) votes.get(winner).add(candidates.branch[loser]);
  const most = 1 + settings.vote_bonus * (page.branches.length - 1);
  const finalOf = (k) => {
    if (byQuality) return valueOf(k) * weightOf(k);
    if (settings.ranking === "agreement") return candidates.agreement[k];
    return (strengthOf(k) + settings.vote_bonus * (votes.get(k).size - 1)) / most;
  };
  let final = ranked(kept, finalOf, candidates);
  if (byQuality && settings.coverage !== null && final.length) {
    const n = covering(final, settings.coverage, page.piecesOfCandidate, page.height, page.width);
    for (const k of final.slice(n)) refused.set(k, "covered");
    final = final.slice(0, n);
  }

  const isThere = new Set(final);
  const gone = new Map();
  for (const [k, reason] of refused) gone.set(k, { reason, by: null, iou: null });
  for (const [k, [winner, iou]] of beaten) {
    const stands = isThere.has(winner);
    const reason = nested.has(k) ? "nested" : "copy";
    gone.set(k, { reason, by: stands ? winner : null, iou: stands ? iou : null });
  }
  const named = final.map((k) => ({ candidate: k, score: finalOf(k), votes: [...votes.get(k)].sort() }));
  return { kept: named, lost: gone };
}

// null: less than the page holds
function iouBetween(neighbours, a, b) {
  const pair = neighbours[a].find(([other]) => other === b);
  return pair === undefined ? null : pair[1];
}
