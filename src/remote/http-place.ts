/** Where a web server's files are, and whom to sign in as. */
import { ServingError } from '../errors.js';
import { maskedUrl, unescaped } from './masked-url.js';

/** A part of a web server. */
export interface HttpPlace {
  /** Its address, without credentials; a query goes with every request. */
  readonly base: URL;
  /** What it is called in messages, secrets masked. */
  readonly label: string;
  /** To send with every request. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * @param address `http://host:port/path`; `user:password@` signs in with HTTP Basic
 * @throws SRV_BAD_CONFIG
 */
export function readHttpPlace(address: URL | string): HttpPlace {
  if (!URL.canParse(String(address))) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `Expected an address such as http://host:port/path, got ${maskedUrl(address)}.`,
    );
  }
  const base = new URL(address);
  const { username, password } = base;
  base.username = '';
  base.password = '';
  return {
    base,
    label: maskedUrl(address).replace(/\?.*$/, '').replace(/\/+$/, ''),
    headers:
      username === '' && password === ''
        ? {}
        : basicAuthorization(`${unescaped(username, address)}:${unescaped(password, address)}`),
  };
}

/** The header that signs in. @param credentials `user:password` */
export function basicAuthorization(credentials: string): Readonly<Record<string, string>> {
  return { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` };
}

/** The address of a path, with or without a slash before it, below another address. */
export function urlBelow(base: URL, path: string): URL {
  const url = new URL(base);
  const segments = path.split('/').map(encodeURIComponent).join('/');
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/${segments.replace(/^\/+/, '')}`;
  return url;
}
