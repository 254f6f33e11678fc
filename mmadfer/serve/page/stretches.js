// Segments as stretches of time that do not overlap; the same rules as mmadfer/runtime/stretches.py.

export function stretches(segments) {
  const ordered = [...segments].sort((a, b) => a.start - b.start || a.end - b.end);
  const found = ordered.map((segment) => ({ start: segment.start, end: segment.end, segment }));
  for (let k = 0; k + 1 < ordered.length; k++) {
    if (ordered[k + 1].start < ordered[k].end) {
      const middle = (ordered[k].end + ordered[k + 1].start) / 2;
      found[k].end = middle;
      found[k + 1].start = middle;
    }
  }
  return found;
}

// Map of person (null where people are not told apart) to segments.
export function byPerson(people, segments) {
  if (!people || !people.length) return new Map([[null, segments]]);
  return new Map(people.map(({ person }) => [person, segments.filter((one) => one.person === person)]));
}

export function said(segment) {
  if (segment.values) return Object.entries(segment.values).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", ");
  return segment.label ? `${segment.label} ${(100 * segment.probabilities[segment.label]).toFixed(0)}%` : "";
}

export function predicted(segment) {
  return Boolean(segment.label || (segment.values && Object.keys(segment.values).length));
}

// Index of the last item whose key is at most `time`, or -1; items are in order of the key.
export function lastAt(items, time, key) {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (key(items[middle]) <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// The stretch at a time; the last one holds its end, where a video stops.
export function stretchAt(told, time) {
  const k = lastAt(told, time, (one) => one.start);
  if (k < 0) return null;
  return time < told[k].end || (k === told.length - 1 && time <= told[k].end + 1e-6) ? told[k] : null;
}

const MOST_GAP = 1.5; // seconds between two places of a face that a box is drawn across
const HELD = 0.3; // seconds that a box outlives its last place

// Places of one face in time: [{time, box}], of entries {times, boxes}.
export function track(entries) {
  const places = entries.flatMap(({ times, boxes }) => times.map((time, k) => ({ time, box: boxes[k] })));
  places.sort((a, b) => a.time - b.time);
  return places.filter((one, k) => k === 0 || one.time - places[k - 1].time > 1e-6);
}

// The box at a time, between the places before and behind; null where the face is not known to be.
export function boxAt(places, time) {
  const k = lastAt(places, time, (one) => one.time);
  const [before, behind] = [places[k], places[k + 1]];
  if (before && behind && behind.time - before.time <= MOST_GAP) {
    const share = (time - before.time) / (behind.time - before.time);
    return before.box.map((side, i) => side + share * (behind.box[i] - side));
  }
  if (before && time - before.time <= HELD) return before.box;
  return behind && behind.time - time <= HELD ? behind.box : null;
}
