'use strict';
// The catalogue of a buildcache. Everything that is shown comes from others, so it becomes text and never markup:
// the page's policy forbids the browser to make markup of it.
(() => {
const pointer = JSON.parse(document.getElementById('catalog').textContent);
const view = document.getElementById('view'), status = document.getElementById('status'), input = document.getElementById('q');

// Elements.
function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) {
    if (k === 'on') for (const [event, f] of Object.entries(v)) e.addEventListener(event, f);
    else if (v === true) e.setAttribute(k, '');
    else if (v !== false && v !== null && v !== undefined) e.setAttribute(k, v);
  }
  for (const c of children.flat(Infinity)) if (c !== null && c !== undefined && c !== false) e.append(c);
  return e;
}
const hidden = /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
// shown is text of others without what cannot be seen, or changes how the rest is seen.
function shown(text, most = 120) {
  const s = String(text).replace(hidden, c => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
  return s.length > most ? s.slice(0, most - 1) + '…' : s;
}
const bdi = text => el('bdi', null, shown(text));
const count = (n, one, more) => n.toLocaleString('en') + ' ' + (n === 1 ? one : more || one + 's');
const size = kib => kib >= 1 << 20 ? (kib / (1 << 20)).toFixed(1) + ' GiB' : kib >= 1 << 10 ? (kib / (1 << 10)).toFixed(1) + ' MiB' : kib + ' KiB';
const day = n => new Date(n * 864e5).toISOString().slice(0, 10);

// Segments.
const kinds = {}; // of each kind, a promise of its segments
async function segment(ref) {
  const name = 'catalog/' + ref.sha256 + '.json';
  const sum = 'sha256-' + btoa(String.fromCharCode(...ref.sha256.match(/../g).map(x => parseInt(x, 16))));
  const answer = await fetch(name, { integrity: sum });
  if (!answer.ok) throw new Error(name + ': ' + answer.status);
  return answer.json();
}
const load = kind => kinds[kind] ||= Promise.all(pointer.segments[kind].map(segment));

const names = [], ids = new Map();
const rows = { name: [], kib: [], day: [], here: [] };
const columns = ['version', 'compiler', 'os', 'target', 'signer', 'trust', 'licence'];
for (const c of columns) rows[c] = [];
const moved = new Map(pointer.moved), gone = new Set(pointer.gone);
const latest = row => { while (moved.has(row)) row = moved.get(row); return row; };

let beside = { views: {}, keys: [], news: [], files: [] }; // what there is beside packages
const views = new Map(); // of each view, a mark for each row that is in it
let hits = null; // downloads of each row
const loadUsage = async () => {
  if (!pointer.usage || hits) return;
  const found = await segment({ sha256: pointer.usage });
  hits = new Map();
  for (let i = 0; i < found.of.length; i += 2) hits.set(latest(found.of[i]), found.of[i + 1]);
};

async function loadBuilds() {
  const [n, b, more] = await Promise.all([load('n'), load('b'), pointer.beside ? segment({ sha256: pointer.beside }) : beside]);
  beside = more;
  for (const s of n) for (const name of s.names || []) { ids.set(name, names.length); names.push(name); }
  for (const s of b) {
    for (const c of ['name', 'kib', 'day', 'here']) for (const v of s[c]) rows[c].push(v);
    for (const c of columns) for (const i of s[c].i) rows[c].push(s[c].v[i]);
  }
  for (const row of gone) rows.here[row] = 0;
  for (const [name, runs] of Object.entries(beside.views)) {
    const marks = new Uint8Array(rows.name.length);
    let at = 0;
    for (let i = 0; i < runs.length; i += 2) { at += runs[i]; marks.fill(1, at, at + runs[i + 1]); at += runs[i + 1]; }
    views.set(name, marks);
  }
  document.querySelector('nav [href="#/files"]').hidden = !beside.files.length;
}
const viewsOf = row => [...views].filter(([, marks]) => marks[row]).map(([name]) => name);
// keyOf is the key that the cache publishes and a signature names, as far as that tells.
const keyOf = signer => beside.keys.find(k => k.issuers.some(f => f === signer || signer.length >= 16 && f.endsWith(signer)));
function signedBy(row) {
  const signer = rows.signer[row], key = signer && keyOf(signer);
  if (!signer) return 'not signed';
  return ['signed by key ', el('code', null, bdi(signer)), key && key.names.length > 0 && [' (', bdi(key.names[0]), ')'], key ? ', which this cache publishes' : ', which this cache does not publish',
    rows.trust[row] === 'yes' ? '; the signature is good and by a trusted key' : rows.trust[row] === 'no' ? [' – ', el('strong', { class: 'bad' }, 'the signature is not by a trusted key')] : ''];
}

let more; // variants, dependencies and what recipes say of packages
function loadMore() {
  return more ||= load('x').then(segments => {
    rows.variants = []; rows.needs = []; rows.about = []; rows.homepage = [];
    for (const s of segments) {
      for (const i of s.variants.i) rows.variants.push(s.variants.v[i]);
      for (const k of ['about', 'homepage']) for (let i = 0; i < s.variants.i.length; i++) rows[k].push(s[k] ? s[k].v[s[k].i[i]] : '');
      for (const edges of s.edges) {
        const row = rows.needs.length, needs = [];
        for (let i = 0; i < edges.length; i += 2) needs.push([latest(row - edges[i]), edges[i + 1]]);
        rows.needs.push(needs);
      }
    }
  });
}
let hashed;
const loadHashes = () => hashed ||= load('h').then(segments => {
  rows.hash = [];
  for (const s of segments) for (let i = 0; i < s.hashes.length; i += 32) rows.hash.push(s.hashes.slice(i, i + 32));
});

// Versions, in Spack's order.
const endless = ['stable', 'nightly', 'trunk', 'head', 'master', 'main', 'develop'], kindsOfPre = new Map([['alpha', 0], ['beta', 1], ['rc', 2], ['final', 3]]);
function parseVersion(text) {
  let git = null;
  if (text.startsWith('git.') || /^[A-Fa-f0-9]{40}$/.test(text) || text.slice(1).includes('=')) {
    const at = text.indexOf('=');
    git = at < 0 ? text : text.slice(0, at);
    text = at < 0 ? '' : text.slice(at + 1);
  }
  const parts = [...text.matchAll(/(\d+)|([a-zA-Z]+)/g)].map(m => m[1] !== undefined ? BigInt(m[1]) : m[2]);
  let pre = [3];
  const n = parts.length;
  if (n >= 3 && typeof parts[n - 1] === 'bigint' && kindsOfPre.has(parts[n - 2])) pre = [kindsOfPre.get(parts[n - 2]), parts.pop()], parts.pop();
  else if (n >= 2 && kindsOfPre.has(parts[n - 1])) pre = [kindsOfPre.get(parts.pop())];
  return { parts: parts.map(p => { const i = endless.indexOf(p); return i >= 0 ? { endless: i } : p; }), pre, git };
}
const rank = c => typeof c === 'string' ? 0 : typeof c === 'bigint' ? 1 : 2;
function compareParts(a, b) {
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (rank(a) === 2) return a.endless - b.endless;
  return a < b ? -1 : a > b ? 1 : 0;
}
function compareLists(a, b, compare) {
  for (let i = 0; i < a.length && i < b.length; i++) { const c = compare(a[i], b[i]); if (c) return c; }
  return a.length - b.length;
}
const compareVersions = (v, w) => Math.sign(compareLists(v.parts, w.parts, compareParts) || compareLists(v.pre, w.pre, (a, b) => Number(a) - Number(b)));
function nextVersion(v) {
  const w = { parts: [...v.parts], pre: [...v.pre], git: null }, last = w.parts.length - 1;
  if (w.pre[0] !== 3) w.pre = w.pre.length > 1 ? [w.pre[0], w.pre[1] + 1n] : [w.pre[0], 0n];
  else if (last < 0) w.parts = ['A'];
  else {
    const c = w.parts[last];
    w.parts[last] = rank(c) === 2 ? { endless: c.endless + 1 } : rank(c) === 1 ? c + 1n : nextWord(c);
  }
  return w;
}
function nextWord(s) {
  do {
    const z = s.slice(-1);
    s = s === '' || z === 'z' ? s + 'A' : s.slice(0, -1) + (z === 'Z' ? 'a' : String.fromCharCode(z.charCodeAt(0) + 1));
  } while (endless.includes(s));
  return s;
}
const lowest = { parts: [], pre: [0], git: null }, highest = { parts: [{ endless: endless.length }], pre: [3], git: null };
function parseRanges(text) {
  return text.split(',').map(part => {
    const colon = part.indexOf(':');
    if (colon < 0) {
      const exact = part.startsWith('='), v = parseVersion(exact ? part.slice(1) : part);
      return exact || v.git ? { exact: v } : { lo: v, end: nextVersion(v) };
    }
    const from = part.slice(0, colon), to = part.slice(colon + 1);
    return { lo: from ? parseVersion(from) : lowest, end: nextVersion(to ? parseVersion(to) : highest) };
  });
}
const holds = (ranges, v) => ranges.some(r => r.exact ? r.exact.git === v.git && compareVersions(r.exact, v) === 0 : compareVersions(r.lo, v) <= 0 && compareVersions(v, r.end) < 0);

// Queries: a subset of Spack's syntax for specs.
const tokens = [
  ['dependency', /[\^%]/y], ['versions', /@\s*([^\s+~^%@/"']+(?:\s*,\s*[^\s+~^%@/"'=]+)*)/y], ['flag', /([+~-])([A-Za-z0-9_][\w.-]*)/y],
  ['pair', /([A-Za-z0-9_][\w.-]*)=(?:"([^"]*)"|'([^']*)'|([^\s"'^%]+))/y], ['hash', /\/([a-z2-7]+)/y], ['name', /\*|[A-Za-z0-9_][\w.-]*/y], ['space', /\s+/y],
];
function parseQuery(text) {
  const root = { variants: [], on: [] };
  let node = root, at = 0, last = root;
  while (at < text.length) {
    let m = null;
    for (const [kind, pattern] of tokens) {
      pattern.lastIndex = at;
      m = pattern.exec(text);
      if (!m) continue;
      const [, a, b, c, d] = m;
      if (kind === 'dependency') { node = { variants: [], on: [], direct: m[0] === '%' }; (node.direct ? last : root).on.push(node); if (!node.direct) last = node; }
      else if (kind === 'versions') {
        const attribute = /:(?=[A-Za-z0-9_][\w.-]*=)/.exec(a), taken = attribute ? a.slice(0, attribute.index + 1) : a; // @1.2:os=rocky9
        m[0] = m[0].slice(0, m[0].length - (a.length - taken.length));
        node.versions = parseRanges(taken.replace(/\s/g, ''));
      }
      else if (kind === 'flag') node.variants.push((a === '+' ? '+' : '~') + b);
      else if (kind === 'hash') node.hash = a;
      else if (kind === 'name') { if (node.name) throw new Error('two names: ' + node.name + ' and ' + m[0]); if (m[0] !== '*') node.name = m[0].split('.').pop(); }
      else if (kind === 'pair') {
        const value = b ?? c ?? d;
        if (a === 'os' || a === 'operating_system') node.os = value;
        else if (a === 'target') node.target = value;
        else if (a === 'runs-on') node.runs = value;
        else node.variants.push([a, value]);
      }
      break;
    }
    if (!m) throw new Error('not understood: ' + text.slice(at));
    at = m.index + m[0].length;
  }
  return root;
}
const needsMore = n => n.variants.length > 0 || n.on.length > 0 || n.on.some(needsMore);
const needsHashes = n => n.hash !== undefined || n.on.some(needsHashes);

const versions = new Map();
const versionOf = row => { const t = rows.version[row]; let v = versions.get(t); if (!v) versions.set(t, v = parseVersion(t)); return v; };
const includes = new Map(Object.entries(pointer.includes));
const runs = new Map(Object.entries(pointer.runs).map(([p, t]) => [p, new Set(t)]));
function inTargets(text, target) {
  return text.split(',').some(part => {
    const [lo, hi] = part.split(':');
    if (hi === undefined) return lo === target;
    return (lo === '' || lo === target || (includes.get(target) || []).includes(lo)) && (hi === '' || hi === target || (runs.get(hi)?.has(target) ?? false));
  });
}
function hasVariant(row, v) {
  const words = ' ' + rows.variants[row] + ' ';
  if (typeof v === 'string') return words.includes(' ' + v + ' ');
  const [name, value] = v;
  if (/^(true|false)$/i.test(value)) return words.includes(' ' + (/true/i.test(value) ? '+' : '~') + name + ' ');
  const at = words.indexOf(' ' + name + '=');
  if (at < 0) return value === '*' && (words.includes(' +' + name + ' ') || words.includes(' ~' + name + ' '));
  const have = words.slice(at + name.length + 2).split(' ')[0].split(',');
  return value === '*' || value.split(',').every(w => have.includes(w));
}
// matchNode compares a row with all but dependencies. loose: the name may be part of the package's.
function matchNode(q, row, loose) {
  const name = names[rows.name[row]];
  if (q.name && !(loose ? name.toLowerCase().includes(q.name.toLowerCase()) : name === q.name)) return false;
  return (!q.versions || holds(q.versions, versionOf(row))) && (!q.os || q.os === '*' || rows.os[row] === q.os) && (!q.target || q.target === '*' || inTargets(q.target, rows.target[row])) &&
    (!q.runs || (runs.get(q.runs)?.has(rows.target[row]) ?? false)) && (!q.hash || rows.hash[row].startsWith(q.hash)) && q.variants.every(v => hasVariant(row, v));
}
// closure marks the rows that depend on a marked one, through any number of others.
function closure(marked) {
  const state = new Int8Array(rows.name.length); // 1: yes, -1: no, 2: being looked at
  const visit = row => {
    if (state[row]) return state[row] === 1;
    state[row] = 2;
    let yes = false;
    for (const [to, types] of rows.needs[row]) if (types & 6 && (marked[to] || visit(to))) { yes = true; break; }
    state[row] = yes ? 1 : -1;
    return yes;
  };
  for (let row = 0; row < state.length; row++) visit(row);
  return row => state[row] === 1 || rows.needs[row].some(([to, types]) => types & 1 && marked[to]);
}
function search(q) {
  const found = [];
  const filters = q.on.map(d => {
    const marked = new Uint8Array(rows.name.length);
    for (let row = 0; row < marked.length; row++) {
      marked[row] = matchNode(d, row, false) && d.on.every(c => rows.needs[row].some(([to]) => matchNode(c, to, false))) ? 1 : 0;
    }
    if (!d.direct) return closure(marked);
    const written = new Map(); // compilers of old specs are no dependencies
    return row => rows.needs[row].some(([to]) => marked[to]) || (d.name && compilerMatches(d, rows.compiler[row], written));
  });
  for (let row = 0; row < rows.name.length; row++) {
    if (rows.here[row] && matchNode(q, row, true) && filters.every(f => f(row))) found.push(row);
  }
  return found;
}
function compilerMatches(d, text, known) {
  let yes = known.get(text);
  if (yes === undefined) {
    yes = text.split(',').some(c => { const [name, version] = c.split('@'); return name === d.name && (!d.versions || (version !== undefined && holds(d.versions, parseVersion(version)))) && !d.variants.length && !d.os && !d.target; });
    known.set(text, yes);
  }
  return yes;
}

// Addresses: #/?q=…&os=…, #/p/NAME, #/p/NAME/HASH, #/new, #/use.
function address() {
  const [path, query] = (location.hash.slice(1) || '/').split('?');
  const parts = path.split('/').slice(1).map(p => { try { return decodeURIComponent(p); } catch { return p; } });
  return { parts, params: new URLSearchParams(query || '') };
}
const linkTo = (name, hash) => '#/p/' + encodeURIComponent(name) + (hash ? '/' + hash : '');

// Results.
let shownResults = 40;
const facets = [['os', 'Operating system'], ['target', 'Target'], ['view', 'View'], ['signer', 'Signed by'], ['trust', 'Signature'], ['licence', 'Licence']];
const valuesOf = (key, row) => key === 'view' ? viewsOf(row) : [rows[key][row]];
const valueText = { trust: { yes: 'trusted', no: 'not trusted', '': 'not judged' }, signer: { '': 'nobody' }, licence: { '': 'not known' } };
const facetText = (key, v) => valueText[key]?.[v] ?? (key === 'signer' ? keyOf(v)?.names[0]?.replace(/ *[(<].*$/, '') || v.slice(-16) : v);
async function results(params, stale) {
  const text = (params.get('q') || '').slice(0, 300);
  let q;
  try { q = parseQuery(text); } catch (e) { return message(e.message, true); }
  if (needsMore(q)) await loadMore();
  if (needsHashes(q)) await loadHashes();
  if (stale()) return;
  performance.mark('search');
  let found = search(q);
  performance.measure('match', 'search');
  const runsOn = params.get('runs') || '';
  if (runsOn) found = found.filter(row => runs.get(runsOn)?.has(rows.target[row]));
  const chosen = new Map(facets.map(([key]) => [key, new Set(params.getAll(key))]));
  const passes = (row, except) => facets.every(([key]) => key === except || chosen.get(key).size === 0 || valuesOf(key, row).some(v => chosen.get(key).has(v)));
  const counts = new Map(facets.map(([key]) => [key, new Map()]));
  for (const row of found) for (const [key] of facets) if ((key !== 'view' || views.size) && passes(row, key)) for (const v of valuesOf(key, row)) counts.get(key).set(v, (counts.get(key).get(v) || 0) + 1);
  found = found.filter(row => passes(row));
  const groups = new Map();
  for (const row of found) { const g = groups.get(rows.name[row]); if (g) g.push(row); else groups.set(rows.name[row], [row]); }
  const want = (q.name || '').toLowerCase();
  const place = name => { const n = name.toLowerCase(); return n === want ? 0 : n.startsWith(want) ? 1 : 2; };
  const sorted = [...groups].sort((a, b) => want && place(names[a[0]]) - place(names[b[0]]) || b[1].length - a[1].length || (names[a[0]] < names[b[0]] ? -1 : 1));
  status.textContent = found.length ? count(sorted.length, 'package') + ', ' + count(found.length, 'build') : 'Nothing found.';
  const list = el('ul', { class: 'results' }, sorted.slice(0, shownResults).map(([id, g]) => result(names[id], g)));
  const rest = sorted.length - shownResults;
  view.replaceChildren(el('div', { class: 'columns' },
    el('div', { class: 'facet' }, runsField(params, runsOn), facets.map(([key, title]) => facet(key, title, counts.get(key), chosen.get(key), params))),
    el('div', null, found.length ? list : el('p', { class: 'soft' }, 'No package in this cache matches. The search compares names, and each part of Spack’s syntax.'),
      rest > 0 && el('p', null, el('button', { type: 'button', on: { click: () => { shownResults += 200; route(); } } }, 'Show ' + count(Math.min(rest, 200), 'more package'))))));
  performance.measure('handler', 'search');
}
function result(name, g) {
  const newest = g.reduce((a, b) => compareVersions(versionOf(a), versionOf(b)) >= 0 ? a : b);
  const targets = [...new Set(g.map(row => rows.target[row]))].sort();
  return el('li', null,
    el('div', null, el('h2', null, el('a', { href: linkTo(name) }, bdi(name)), el('span', { class: 'version' }, bdi(rows.version[newest]))), targets.slice(0, 6).map(t => el('span', { class: 'tag' }, bdi(t)))),
    el('p', { class: 'facts' }, count(g.length, 'build'), ', ', size(g.reduce((n, row) => n + rows.kib[row], 0)), ', ', el('time', { datetime: day(Math.max(...g.map(r => rows.day[r]))) }, day(g.reduce((n, row) => Math.max(n, rows.day[row]), 0)))));
}
function changed(params, change) {
  const p = new URLSearchParams(params);
  change(p);
  location.hash = '#/?' + p;
}
function facet(key, title, counts, chosen, params) {
  const values = [...new Set([...counts.keys(), ...chosen])].sort((a, b) => (counts.get(b) || 0) - (counts.get(a) || 0) || (a < b ? -1 : 1)).slice(0, 12);
  if (values.length === 1 && values[0] === '' && key !== 'signer') return null; // nothing is known
  return values.length > 0 && el('fieldset', null, el('legend', null, title), values.map(v => el('label', null,
    el('input', { type: 'checkbox', checked: chosen.has(v), 'data-focus': key + ' ' + v, on: { change: e => changed(params, p => { p.delete(key); for (const w of chosen) if (w !== v) p.append(key, w); if (e.target.checked) p.append(key, v); }) } }),
    el('span', null, bdi(facetText(key, v))), el('span', null, (counts.get(v) || 0).toLocaleString('en')))));
}
function runsField(params, runsOn) {
  return el('fieldset', null, el('legend', null, el('label', { for: 'runs' }, 'Runs on')),
    el('select', { id: 'runs', 'data-focus': 'runs', on: { change: e => changed(params, p => e.target.value ? p.set('runs', e.target.value) : p.delete('runs')) } },
      el('option', { value: '' }, 'any processor'), [...runs.keys()].sort().map(p => el('option', { value: p, selected: p === runsOn }, p))));
}

// One package.
async function package_(name, hash, stale) {
  const id = ids.get(name);
  const builds = [];
  for (let row = 0; row < rows.name.length; row++) if (rows.name[row] === id && rows.here[row]) builds.push(row);
  if (id === undefined || !builds.length) return message('This cache has no package ' + shown(name) + '.', false);
  if (!rows.needs || !rows.hash) { // the rest takes longer
    status.textContent = 'Loading ' + count(builds.length, 'build') + ' of ' + shown(name) + '…';
    view.replaceChildren(el('div', null, el('p', null, el('a', { href: '#/' }, '← Packages')), el('h2', null, bdi(name)), matrix(builds)));
  }
  await Promise.all([loadMore(), loadHashes(), loadUsage()]);
  if (stale()) return;
  builds.sort((a, b) => compareVersions(versionOf(b), versionOf(a)) || (rows.os[a] < rows.os[b] ? -1 : 1));
  const one = hash ? builds.filter(row => rows.hash[row].startsWith(hash)) : [];
  status.textContent = count(builds.length, 'build') + ' of ' + shown(name);
  document.title = shown(name) + ' – ' + pointer.title;
  view.replaceChildren(el('div', null, el('p', null, el('a', { href: '#/' }, '← Packages')), el('h2', null, bdi(name)), described(builds),
    hash && !one.length && el('p', { class: 'bad' }, 'There is no build /' + shown(hash) + ' here.'),
    one.map(build), one.length === 1 && compared(one[0], builds), matrix(builds), table('Builds', ['Hash', 'Version', 'Compiler', 'System', 'Size', 'Stored', ...(hits ? ['Downloads'] : []), 'Variants'], builds.map(row => [
      el('a', { href: linkTo(name, rows.hash[row]) }, '/' + rows.hash[row].slice(0, 7)), bdi(rows.version[row]), bdi(rows.compiler[row]), [bdi(rows.os[row]), ' ', bdi(rows.target[row])], size(rows.kib[row]), day(rows.day[row]), ...(hits ? [(hits.get(row) || 0).toLocaleString('en')] : []), bdi(differing(row, builds))])),
    needed(builds)));
}
// described is what the newest recipe says of a package that says anything. Only addresses of the web become links.
function described(builds) {
  const row = builds.find(b => rows.about[b] || rows.homepage[b]);
  if (row === undefined) return null;
  let address = null;
  try { const u = new URL(rows.homepage[row]); if (u.protocol === 'https:' || u.protocol === 'http:') address = u.href; } catch { /* none */ }
  return [rows.about[row] && el('p', null, el('bdi', null, shown(rows.about[row], 500))), address && el('p', null, el('a', { href: address, rel: 'noreferrer noopener nofollow' }, bdi(address)))];
}
// differing are the variants that not all builds have.
function differing(row, builds) {
  const words = rows.variants[row].split(' ');
  if (builds.length === 1) return words.join(' ');
  return words.filter(w => !builds.every(b => rows.variants[b].split(' ').includes(w))).join(' ');
}
function table(title, heads, lines) {
  return [el('h3', null, title), el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': title }, el('table', null, el('thead', null, el('tr', null, heads.map(h => el('th', { scope: 'col' }, h)))),
    el('tbody', null, lines.map(cells => el('tr', null, cells.map((c, i) => el('td', { class: heads[i] === 'Variants' || heads[i] === 'Differs in' ? 'wrap' : null }, c)))))))];
}
function matrix(builds) {
  const systems = [...new Set(builds.map(row => rows.os[row] + '\n' + rows.target[row]))].sort(), byVersion = new Map();
  for (const row of builds) { const v = rows.version[row]; if (!byVersion.has(v)) byVersion.set(v, new Map()); const m = byVersion.get(v), s = rows.os[row] + '\n' + rows.target[row]; m.set(s, (m.get(s) || 0) + 1); }
  return [el('h3', null, 'Versions and systems'), el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Versions and systems' }, el('table', null,
    el('thead', null, el('tr', null, el('th', { scope: 'col' }, 'Version'), systems.map(s => el('th', { scope: 'col' }, bdi(s.split('\n')[0]), el('br'), bdi(s.split('\n')[1]))))),
    el('tbody', null, [...byVersion].map(([v, m]) => el('tr', null, el('th', { scope: 'row' }, bdi(v)), systems.map(s => m.has(s) ? el('td', { class: 'has' }, String(m.get(s))) : el('td', { class: 'no' }, '–')))))))];
}
const types = n => ['build', 'link', 'run', 'test'].filter((_, i) => n & 1 << i).join(', ');
function rowLink(row) {
  const name = names[rows.name[row]];
  return rows.here[row] ? el('a', { href: linkTo(name, rows.hash[row]) }, bdi(name + '@' + rows.version[row])) : el('span', { class: 'absent' }, bdi(name + '@' + rows.version[row]));
}
function build(row) {
  const hash = rows.hash[row];
  return el('section', { 'aria-label': 'Build ' + hash.slice(0, 7) }, el('h3', null, '/' + hash.slice(0, 7), ' ', bdi(rows.version[row])),
    el('p', null, bdi(rows.os[row]), ' ', bdi(rows.target[row]), rows.compiler[row] && [', built with ', bdi(rows.compiler[row])], ', ', size(rows.kib[row]), ', stored ', el('time', { datetime: day(rows.day[row]) }, day(rows.day[row])), ', ',
      signedBy(row), '.', rows.licence[row] && [' Licence: ', bdi(rows.licence[row]), '.'], hits && [' ', count(hits.get(row) || 0, 'download'), '.'], viewsOf(row).length > 0 && [' In the views ', viewsOf(row).map((v, i) => [i > 0 && ', ', bdi(v)]), '.']),
    copy('spack install --cache-only /' + hash), el('details', null, el('summary', null, 'In spack.yaml and in a Dockerfile'), copy('spack:\n  specs:\n  - /' + hash), copy('RUN spack install --cache-only /' + hash)), el('p', null, el('code', null, bdi(rows.variants[row]))),
    rows.needs[row].length > 0 && table('Depends on', ['Package', 'For'], rows.needs[row].map(([to, t]) => [rowLink(to), types(t)])));
}
// own is where two builds of a package differ themselves.
function own(a, b) {
  const found = [];
  for (const key of ['version', 'os', 'target', 'compiler']) if (rows[key][a] !== rows[key][b]) found.push([key + ' ', bdi(rows[key][a] || 'none'), ' and ', bdi(rows[key][b] || 'none')]);
  const x = rows.variants[a].split(' '), y = rows.variants[b].split(' ');
  const only = x.filter(w => !y.includes(w)).join(' '), other = y.filter(w => !x.includes(w)).join(' ');
  if (only || other) found.push([bdi(only || 'no such variant'), ' and ', bdi(other || 'no such variant')]);
  const needs = row => new Set(rows.needs[row].map(([to]) => rows.name[to])), p = needs(a), q = needs(b);
  const alone = [...p].filter(n => !q.has(n)).concat([...q].filter(n => !p.has(n)));
  if (alone.length) found.push(['only one of them needs ', alone.slice(0, 12).map((n, i) => [i > 0 && ', ', bdi(names[n])])]);
  return found;
}
// differences are where a build is other than another one: itself, or else the nearest of its dependencies that are themselves other.
function differences(a, b) {
  const seen = new Set(), found = [];
  for (let level = [[a, b, []]]; level.length && !found.length;) {
    const next = [];
    for (const [x, y, path] of level) {
      const here = own(x, y);
      if (here.length) { found.push([path.length > 0 && [bdi(path.join(' → ')), ': '], here.map((f, i) => [i > 0 && '; ', f])]); continue; }
      const others = new Map(rows.needs[y].map(([to]) => [rows.name[to], to]));
      const changed = rows.needs[x].filter(([to]) => others.has(rows.name[to]) && rows.hash[to] !== rows.hash[others.get(rows.name[to])]);
      if (!changed.length) found.push([path.length > 0 && [bdi(path.join(' → ')), ': '], 'the recipe, or what it was built from']);
      for (const [to] of changed) if (!seen.has(to)) { seen.add(to); next.push([to, others.get(rows.name[to]), [...path, names[rows.name[to]]]]); }
    }
    level = next;
  }
  return found.slice(0, 4).map((f, i) => [i > 0 && el('br'), f]);
}
function compared(row, builds) {
  const others = builds.filter(b => b !== row).slice(0, 30);
  return others.length > 0 && table('Why the other builds have other hashes', ['Build', 'Differs in'], others.map(b => [rowLinkTo(b), differences(row, b)]));
}
const rowLinkTo = row => el('a', { href: linkTo(names[rows.name[row]], rows.hash[row]) }, '/' + rows.hash[row].slice(0, 7));
function needed(builds) {
  const on = new Set(builds), by = [];
  for (let row = 0; row < rows.name.length; row++) if (rows.here[row]) for (const [to, t] of rows.needs[row]) if (on.has(to)) { by.push([row, t, to]); break; }
  return by.length > 0 && table('Needed by', ['Package', 'For', 'Needs'], by.slice(0, 200).map(([row, t, to]) => [rowLink(row), types(t), '/' + rows.hash[to].slice(0, 7)]));
}
// copy is a line and a button that copies it. Pasting must run nothing by itself.
function copy(text) {
  if (!/^[\x20-\x7e\n]+$/.test(text)) return null;
  const button = el('button', { type: 'button', on: { click: async () => { try { await navigator.clipboard.writeText(text); button.textContent = 'Copied'; } catch { button.textContent = 'Select and copy'; } } } }, 'Copy');
  return el('div', { class: 'copy' }, el('pre', { tabindex: 0 }, text), button);
}

// Other pages.
function use() {
  const url = pointer.url || location.href.replace(/[?#].*$/, '').replace(/(index\.html|\/)$/, '').replace(/\/$/, '');
  const safe = /^[A-Za-z0-9:/._~%+-]+$/.test(url);
  status.textContent = 'How to use this cache';
  view.replaceChildren(el('div', null, el('h2', null, 'Use this cache'), safe ? [
    el('h3', null, 'In a shell'), copy('spack mirror add cache ' + url), el('h3', null, 'Trust its keys'), beside.keys.length ? [el('p', null, 'This trusts the keys that the cache publishes:'), el('ul', null, beside.keys.map(k => el('li', null, el('code', null, bdi(k.fingerprint)), k.names.length > 0 && [' ', bdi(k.names[0])], k.trusted && ', trusted by those who run this cache')))] : el('p', null, 'This cache publishes no key.'), copy('spack buildcache keys --install --trust'),
    el('h3', null, 'In spack.yaml'), copy('spack:\n  mirrors:\n    cache: ' + url), el('h3', null, 'In a Dockerfile'), copy('RUN spack mirror add cache ' + url + ' && spack buildcache keys --install --trust'),
    views.size > 0 && [el('h3', null, 'Only a view of it'), [...views.keys()].map(v => /^[A-Za-z0-9._\/-]+$/.test(v) && copy('spack mirror add --name ' + v + ' cache ' + url))], el('h3', null, 'List it'), copy('spack buildcache list --allarch')] : el('p', null, 'The address of this cache cannot be shown as a command.')));
}
function news() {
  const all = [];
  for (let row = 0; row < rows.name.length; row++) if (rows.here[row]) all.push(row);
  all.sort((a, b) => rows.day[b] - rows.day[a] || b - a);
  status.textContent = 'The latest packages';
  view.replaceChildren(el('div', null, el('h2', null, 'New'), beside.news.length > 0 && [el('h3', null, 'What changed'), el('ul', { class: 'news' }, beside.news.map(change))], table('The latest 100 packages', ['Stored', 'Package', 'System'], all.slice(0, 100).map(row => [day(rows.day[row]), el('a', { href: linkTo(names[rows.name[row]]) }, bdi(names[rows.name[row]] + '@' + rows.version[row])), [bdi(rows.os[row]), ' ', bdi(rows.target[row])]]))));
}
// change is one switch of an index.
function change(e) {
  const list = (word, all, more) => all.length > 0 && el('details', null, el('summary', null, count(all.length + more, 'package') + ' ' + word), el('ul', null, all.map(id => el('li', null, packageLink(id))), more > 0 && el('li', null, 'and ' + count(more, 'more', 'more'))));
  return el('li', null, el('time', { datetime: e.time }, e.time.replace('T', ' ').replace('Z', ' UTC')), ' ', el('code', null, bdi(e.command)), e.by && [' by ', bdi(e.by)], e.reason && [': ', bdi(e.reason)], list('added', e.added, e.more[0]), list('removed', e.removed, e.more[1]));
}
function packageLink(id) { // name@version/hash
  const m = /^([^@]+)@(.*)\/([a-z2-7]{7,32})$/.exec(id);
  return m && ids.has(m[1]) ? el('a', { href: linkTo(m[1], m[3]) }, bdi(m[1] + '@' + m[2])) : bdi(id);
}
function files() {
  status.textContent = count(beside.files.length, 'file');
  const at = name => './' + name.split('/').map(encodeURIComponent).join('/');
  view.replaceChildren(el('div', null, el('h2', null, 'Files'), table('Files beside the packages', ['File', 'Size', 'Stored', 'Checked by'], beside.files.map(f => [
    el('a', { href: at(f.name) }, bdi(f.name)), size(Math.ceil(f.bytes / 1024)), f.day, [f.signature ? el('a', { href: at(f.name + '.asc') }, 'signature') : 'not signed', f.checksum && [' ', el('a', { href: at(f.name + '.sha256') }, 'checksum')]]]))));
}
function message(text, bad) {
  status.textContent = shown(text);
  view.replaceChildren(el('p', { class: bad ? 'bad' : 'soft' }, bad ? 'The search takes parts of Spack’s syntax for specs, as in the line below the field.' : el('a', { href: '#/' }, 'All packages')));
}
let turn = 0;
async function route() {
  const mine = ++turn, { parts, params } = address(), focus = document.activeElement?.getAttribute('data-focus');
  document.title = pointer.title;
  for (const a of document.querySelectorAll('nav a')) a.toggleAttribute('aria-current', a.getAttribute('href') === '#/' + (['new', 'use', 'files'].includes(parts[0]) ? parts[0] : ''));
  try {
    if (parts[0] === 'p') await package_(parts[1] || '', parts[2], () => mine !== turn);
    else if (parts[0] === 'use') use();
    else if (parts[0] === 'new') news();
    else if (parts[0] === 'files') files();
    else {
      if (document.activeElement !== input) input.value = params.get('q') || '';
      await results(params, () => mine !== turn);
    }
  } catch (e) { if (mine === turn) failed(e); }
  if (focus) for (const e of view.querySelectorAll('[data-focus]')) if (e.getAttribute('data-focus') === focus) e.focus();
}
function failed(e) {
  status.textContent = 'A part of the catalogue could not be loaded.';
  view.replaceChildren(el('p', { class: 'bad' }, shown(e.message)), el('p', null, 'It may have been replaced or damaged: load the page again. If that does not help, whoever runs this cache can make it anew.'));
}

input.addEventListener('input', () => {
  shownResults = 40;
  const { parts, params } = address();
  const p = parts[0] ? new URLSearchParams() : params;
  if (input.value) p.set('q', input.value); else p.delete('q');
  history.replaceState(null, '', '#/?' + p);
  route();
});
document.getElementById('form').addEventListener('submit', e => e.preventDefault());
document.addEventListener('keydown', e => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (e.key === '/' && !typing || e.key === 'k' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); input.focus(); input.select(); }
  else if (e.key === 'Escape' && document.activeElement === input) { input.value = ''; input.dispatchEvent(new Event('input')); }
  else if ((e.key === 'ArrowDown' || e.key === 'ArrowUp') && (document.activeElement === input || document.activeElement.closest('.results'))) {
    const links = [...view.querySelectorAll('.results a')], at = links.indexOf(document.activeElement) + (e.key === 'ArrowDown' ? 1 : -1);
    e.preventDefault();
    if (at < 0) input.focus(); else links[at]?.focus();
  }
});
const theme = document.getElementById('theme'), themes = ['auto', 'light', 'dark'];
function setTheme(t) {
  if (!themes.includes(t)) t = 'auto';
  theme.textContent = 'Theme: ' + t;
  if (t === 'auto') delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = t;
  try { localStorage.setItem('catalog-theme', t); } catch { /* the next visit begins with auto */ }
}
theme.addEventListener('click', () => setTheme(themes[(themes.indexOf(theme.textContent.slice(7)) + 1) % 3]));
let stored = 'auto';
try { stored = localStorage.getItem('catalog-theme') || 'auto'; } catch { /* not allowed to remember */ }
setTheme(stored);
theme.hidden = document.getElementById('form').hidden = false;
addEventListener('hashchange', route);
loadBuilds().then(() => { performance.mark('ready'); document.body.dataset.ready = '1'; return route(); }).catch(failed);
window.catalog = { parseVersion, compareVersions, parseRanges, holds, parseQuery, search: async text => { const q = parseQuery(text); await loadMore(); await loadHashes(); return search(q).map(row => rows.hash[row]); } };
})();
