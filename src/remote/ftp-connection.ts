/** A connection to an FTP server, opened when it is needed and opened anew when it broke. */
import { Client, FTPError } from 'basic-ftp';
import { messageOf, ServingError } from '../errors.js';
import { abortError, throwIfAborted } from './abort.js';
import { certificateReason } from './certificate-reason.js';
import { maskedUrl, unescaped } from './masked-url.js';

/** How to reach an FTP server. */
export interface FtpAccess {
  readonly host: string;
  /** @default 21, of implicit TLS 990 */
  readonly port?: number;
  /** @default anonymous */
  readonly username?: string;
  readonly password?: string;
  /** Where paths begin. @default the root; for paths without a slash before them where one is after signing in */
  readonly directory?: string;
  /** `explicit`: the connection begins in the clear and asks for TLS; `implicit`: it begins with it. @default none */
  readonly tls?: 'explicit' | 'implicit';
}

/** What counts where an address does not say it; of a user and a password, these count first. */
export interface FtpDefaults {
  readonly port?: number;
  readonly username?: string;
  readonly password?: string;
}

/**
 * How to reach the server at an address. `ftps` asks for TLS on the usual port, and begins with it on port 990.
 *
 * @param address `host`, `ftp://user:password@host:port/directory` or `ftps://`
 * @throws SRV_BAD_CONFIG
 */
export function readFtpAddress(address: string, defaults: FtpDefaults = {}): FtpAccess {
  const whole = /^[a-z][a-z\d+.-]*:\/\//i.test(address) ? address : `ftp://${address}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (!url || url.hostname === '' || !['ftp:', 'ftps:'].includes(url.protocol)) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `Expected a host, ftp://host or ftps://host, got ${maskedUrl(whole)}.`,
    );
  }
  const port = url.port === '' ? defaults.port : Number(url.port);
  const username = defaults.username || unescaped(url.username, url);
  const password = defaults.password || unescaped(url.password, url);
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    ...(port === undefined ? {} : { port }),
    ...(username === '' ? {} : { username, password }),
    ...(['', '/'].includes(url.pathname) ? {} : { directory: unescaped(url.pathname, url) }),
    ...(url.protocol === 'ftps:' ? { tls: port === 990 ? 'implicit' : 'explicit' } : {}),
  };
}

/** One connection, for one thing at a time. */
export class FtpConnection {
  /** What the server is called in messages. */
  readonly label: string;
  readonly #access: FtpAccess;
  #client: Client | undefined;
  #home = '/';
  #isClosed = false;

  constructor(access: FtpAccess) {
    this.#access = access;
    const { host, port, tls, username = '', directory = '' } = access;
    const user = username === '' ? '' : `${username}@`;
    const name = host.includes(':') ? `[${host}]` : host;
    this.label = `${tls ? 'ftps' : 'ftp'}://${user}${name}${port === undefined ? '' : `:${port}`}${directory}`;
  }

  /** Where one is after signing in, once that was done. */
  get home(): string {
    return this.#home;
  }

  /**
   * Asks the server.
   *
   * @param path what it is about, for messages
   * @param refusals codes of the server for which the answer is undefined
   * @throws SRV_REMOTE_REFUSED, SRV_REMOTE_TOO_LARGE, SRV_REMOTE_UNAVAILABLE, SRV_CANCELLED, what `ask` throws
   */
  async ask<Answer>(
    path: string,
    signal: AbortSignal | undefined,
    ask: (client: Client) => Promise<Answer>,
    refusals: readonly number[] = [],
  ): Promise<Answer | undefined> {
    throwIfAborted(signal);
    if (this.#isClosed)
      throw new ServingError('SRV_CANCELLED', `${this.label}${path}: the connection was given up`);
    const onAbort = (): void => this.drop();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await ask(await this.#connected());
    } catch (cause) {
      if (signal?.aborted) throw abortError(signal);
      if (cause instanceof FTPError && refusals.includes(cause.code)) return undefined;
      throw failure(this.label + path, cause);
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Ends what is asked, and asks nothing more. */
  close(): void {
    this.#isClosed = true;
    this.drop();
  }

  /** Ends what is asked; what is asked next has a connection of its own. */
  drop(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  async #connected(): Promise<Client> {
    if (this.#client && !this.#client.closed) return this.#client;
    const { host, port, username, password, tls } = this.#access;
    // Time limits are the caller's.
    const client = new Client(0);
    this.#client = client;
    try {
      await client.access({
        host,
        port: port ?? (tls === 'implicit' ? 990 : 21),
        user: username || 'anonymous',
        password: password ?? '',
        secure: tls === 'implicit' ? 'implicit' : tls === 'explicit',
      });
      this.#home = await client.pwd();
    } catch (error) {
      // A connection that is open and not signed in would be taken for a good one.
      client.close();
      throw error;
    }
    return client;
  }
}

function failure(label: string, cause: unknown): ServingError {
  if (cause instanceof ServingError) return cause;
  const code = cause instanceof FTPError ? cause.code : 0;
  const said = `${label}: ${certificateReason(cause) ?? messageOf(cause)}.`;
  if ([530, 532, 550, 553].includes(code)) return new ServingError('SRV_REMOTE_REFUSED', said, { cause });
  // 552: over its quota.
  if (code === 552) return new ServingError('SRV_REMOTE_TOO_LARGE', said, { cause });
  return new ServingError('SRV_REMOTE_UNAVAILABLE', said, { cause });
}
