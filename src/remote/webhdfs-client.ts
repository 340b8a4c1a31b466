/** Requests to WebHDFS, the REST interface that name nodes and HttpFS gateways have. */
import { type ErrorCode, ServingError } from '../errors.js';
import { type HttpBody, HttpClient, type HttpReply, readWhole } from './http-client.js';
import { basicAuthorization, urlBelow } from './http-place.js';
import { maskedUrl, unescaped } from './masked-url.js';

/** An answer that was read: its JSON, or what WebHDFS calls its exception. */
export interface WebHdfsAnswer {
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
  readonly exception?: string;
  readonly message?: string;
}

/** One operation. */
export interface WebHdfsRequest {
  readonly method: 'GET' | 'PUT' | 'DELETE';
  readonly path: string;
  /** `op`, and its parameters. */
  readonly query: Readonly<Record<string, string>> & { readonly op: string };
  readonly signal: AbortSignal | undefined;
}

const maxAnswerBytes = 64 << 20;

/** A file system behind WebHDFS. */
export class WebHdfsClient {
  /** What it is called in messages, secrets masked. */
  readonly label: string;
  readonly #bases: readonly URL[];
  readonly #headers: Readonly<Record<string, string>>;
  readonly #client = new HttpClient();

  /**
   * @param address `webhdfs://host:port`, `swebhdfs://` over TLS; several hosts with commas between them are name nodes
   * that stand by for each other; a path goes before `/webhdfs/v1`, `user:password@` signs in with HTTP Basic, and a
   * query goes with every request (`?delegation=TOKEN`)
   * @param user whom HDFS is told that this is; empty: nobody
   */
  constructor(address: string, user: string) {
    const [, scheme = '', credentials = '', hosts = '', rest = ''] =
      /^(\w+):\/\/(?:([^/?#]*)@)?([^/?#]*)(.*)$/.exec(address) ?? [];
    const protocol = scheme === 'swebhdfs' || scheme === 'https' ? 'https' : 'http';
    this.#bases = hosts.split(',').map((host) => {
      const text = `${protocol}://${host}${rest}`;
      if (!URL.canParse(text)) {
        throw new ServingError(
          'SRV_BAD_CONFIG',
          `Expected an address such as webhdfs://host:port, got ${maskedUrl(address)}.`,
        );
      }
      const base = new URL(text);
      base.pathname = `${base.pathname.replace(/\/+$/, '')}/webhdfs/v1`;
      if (user !== '') base.searchParams.set('user.name', user);
      return base;
    });
    this.label = `${protocol === 'https' ? 'swebhdfs' : 'webhdfs'}://${hosts}`;
    this.#headers = credentials === '' ? {} : basicAuthorization(unescaped(credentials, address));
  }

  /** Asks the name nodes in turn until one answers that does not merely stand by; any status is a reply. */
  async send({ method, path, query, signal }: WebHdfsRequest): Promise<HttpReply> {
    let last: unknown;
    for (const base of this.#bases) {
      const url = urlBelow(base, path);
      for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
      try {
        const reply = await this.#client.request(url, {
          method,
          headers: { ...this.#headers, ...(method === 'PUT' ? { 'content-length': '0' } : {}) },
          // Of what is written, the name node only says where it goes.
          follows: method === 'GET',
          signal,
        });
        if (this.#bases.length === 1 || reply.status !== 403) return reply;
        const answer = await readAnswer(reply);
        const error = this.refusal(path, query.op, answer);
        if (answer.exception !== 'StandbyException') throw error;
        last = error;
      } catch (error) {
        if (!(error instanceof ServingError) || error.code !== 'SRV_REMOTE_UNAVAILABLE') throw error;
        last = error;
      }
    }
    throw last;
  }

  /** Sends the bytes of a file to where a name node said that they go. Only its own hosts get the password. */
  sendBytes(place: URL, body: HttpBody, signal: AbortSignal | undefined): Promise<HttpReply> {
    const isOwn = this.#bases.some(({ origin }) => origin === place.origin);
    return this.#client.request(place, {
      method: 'PUT',
      headers: { ...(isOwn ? this.#headers : {}), 'content-type': 'application/octet-stream' },
      body,
      follows: false,
      signal,
    });
  }

  /** The error of an answer that is no success, with what WebHDFS says of it. */
  refusal(path: string, operation: string, { status, exception, message }: WebHdfsAnswer): ServingError {
    const said = exception === undefined ? '' : `, ${exception}: ${message?.split('\n')[0] ?? ''}`;
    return new ServingError(
      codeOf(status, exception),
      `${this.label}${path}: ${operation} was answered with ${status}${said}`,
    );
  }

  close(): void {
    this.#client.close();
  }
}

/** What stands for the exception of an answer that is no JSON, such as the page of another server. */
export const notJson = 'not JSON';

/** Reads an answer, of which anything but JSON becomes an exception. @throws SRV_REMOTE_TOO_LARGE */
export async function readAnswer(reply: HttpReply): Promise<WebHdfsAnswer> {
  const { status } = reply;
  const text = (await readWhole(reply, maxAnswerBytes)).toString('utf8');
  let json: unknown;
  try {
    json = text === '' ? {} : JSON.parse(text);
  } catch {
    json = undefined;
  }
  if (typeof json !== 'object' || json === null) {
    return { status, json: {}, exception: notJson, message: JSON.stringify(text.slice(0, 80)) };
  }
  const { RemoteException: said } = json as {
    RemoteException?: { exception?: unknown; message?: unknown } | null;
  };
  return {
    status,
    json: json as Record<string, unknown>,
    ...(said ? { exception: String(said.exception), message: String(said.message ?? '') } : {}),
  };
}

function codeOf(status: number, exception = ''): ErrorCode {
  if (exception === 'StandbyException') return 'SRV_REMOTE_UNAVAILABLE';
  if (/QuotaExceeded/.test(exception)) return 'SRV_REMOTE_TOO_LARGE';
  if (status === 404) return 'SRV_REMOTE_NOT_FOUND';
  if (status === 401 || status === 403) return 'SRV_REMOTE_REFUSED';
  return status === 200 ? 'SRV_REMOTE_DAMAGED' : 'SRV_REMOTE_UNAVAILABLE';
}
