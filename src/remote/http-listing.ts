/** Directory listings of web servers: the pages of nginx, Apache, Caddy and Python, and nginx's JSON. */
import type { RemoteEntry } from './remote-store.js';

/**
 * The entries that the page of a directory links to: links to the directory itself, to those above it, to other
 * places and to other orders of the same list are none.
 *
 * @param base the address of the page, which ends with a slash
 */
export function parseHtmlListing(html: string, base: URL): RemoteEntry[] {
  const entries = new Map<string, RemoteEntry>();
  for (const [, quoted, single, bare] of html.matchAll(
    /<a\s[^>]*?\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))/gi,
  )) {
    const href = decodeEntities(quoted ?? single ?? bare ?? '');
    if (href === '' || href.startsWith('?') || href.startsWith('#') || !URL.canParse(href, base.href))
      continue;
    const { origin, pathname } = new URL(href, base);
    if (origin !== base.origin || !pathname.startsWith(base.pathname)) continue;
    const [, segment, slash] = /^([^/]+)(\/?)$/.exec(pathname.slice(base.pathname.length)) ?? [];
    if (segment === undefined) continue;
    const name = decoded(segment);
    entries.set(name, { name, isDirectory: slash === '/' });
  }
  return [...entries.values()];
}

/** A listing as nginx writes it with `autoindex_format json`; undefined where the text is something else. */
export function parseJsonListing(text: string): RemoteEntry[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(parsed)) return undefined;
  const entries: RemoteEntry[] = [];
  for (const item of parsed as unknown[]) {
    const { name, type, size } = (item ?? {}) as { name?: unknown; type?: unknown; size?: unknown };
    if (typeof name !== 'string' || (type !== 'file' && type !== 'directory')) return undefined;
    const isDirectory = type === 'directory';
    entries.push({
      name,
      isDirectory,
      ...(typeof size === 'number' && !isDirectory ? { bytes: size } : {}),
    });
  }
  return entries;
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

const namedEntities: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
};

function decodeEntities(text: string): string {
  return text.replaceAll(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w+));/gi, (whole, decimal, hex, name) => {
    if (name !== undefined) return namedEntities[String(name).toLowerCase()] ?? whole;
    const point = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
    return point <= 0x10ffff ? String.fromCodePoint(point) : whole;
  });
}
