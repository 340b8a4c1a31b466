/** What stands where a secret was. */
export const mask = '***';

/**
 * An address without its secrets, for messages: a password becomes `***`, and so does every value of the query, where
 * signed addresses and tokens have theirs.
 */
export function maskedUrl(address: URL | string): string {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    // What cannot be parsed may still hold a password before its @.
    return String(address)
      .replace(/\/\/[^/@]*@/, `//${mask}@`)
      .replace(/\?.*$/s, `?${mask}`);
  }
  const user = url.username === '' && url.password === '' ? '' : `${url.username}:${mask}@`;
  const query = url.search === '' ? '' : `?${mask}`;
  return `${url.protocol}//${user}${url.host}${url.pathname === '/' ? '' : url.pathname}${query}`;
}
