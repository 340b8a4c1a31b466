import { ServingError } from '../errors.js';

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
      .replace(/\/\/[^/]*@/, `//${mask}@`)
      .replace(/\?.*$/s, `?${mask}`);
  }
  const user = url.username === '' && url.password === '' ? '' : `${url.username}:${mask}@`;
  const query = url.search === '' ? '' : `?${mask}`;
  return `${url.protocol}//${user}${url.host}${url.pathname === '/' ? '' : url.pathname}${query}`;
}

/**
 * What of an address tells one place from another, and stays when a password or a token becomes another one: the values of
 * the query and whom to sign in as are left out. The user of an FTP server stays, because each may have a root of his own.
 */
export function placeOfAddress(address: string): string {
  if (!URL.canParse(address)) return address;
  const url = new URL(address);
  url.password = '';
  if (!/^ftps?:$/.test(url.protocol)) url.username = '';
  url.search = [...url.searchParams.keys()].map(encodeURIComponent).join('&');
  return url.href;
}

/**
 * A text in which others may repeat what they were given, without it.
 *
 * @param secrets to mask; those of one or two characters are left
 * @param addresses whose passwords are to be masked
 */
export function redacted(
  text: string,
  secrets: readonly string[],
  addresses: readonly string[] = [],
): string {
  const passwords = addresses.flatMap((address) => {
    const [, password] = /^[^/]*\/\/[^/@:]*:([^/]+)@/.exec(address) ?? [];
    return password === undefined ? [] : [password];
  });
  return [...secrets, ...passwords]
    .filter((secret) => secret.length > 2)
    .reduce((masked, secret) => masked.replaceAll(secret, mask), text);
}

/**
 * A part of an address with its escapes resolved.
 *
 * @throws SRV_BAD_CONFIG where a % begins none
 */
export function unescaped(part: string, address: URL | string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new ServingError('SRV_BAD_CONFIG', `${maskedUrl(address)}: expected %25 for a % in the address.`);
  }
}
