/**
 * HTTP/1.1 connections for load. node:http with a keep-alive agent was tried first: 33 to 63 us of CPU a request
 * in a closed loop of 32, against 14 to 17 for this. On a small machine the generator, not the server, was then
 * what an open loop measured.
 */
import net from 'node:net';
import tls from 'node:tls';
import { type HttpReply, ReplyReader } from './reply-reader.js';

/** Where to connect, and the bounds. */
export interface ConnectionOptions {
  readonly url: URL;
  /** Requests beyond this many wait for a connection; the wait counts in their latency. */
  readonly maxConnections: number;
  /** After which a request fails with `timeout`, ms; its connection is closed. */
  readonly timeoutMs: number;
}

interface Exchange {
  readonly request: Buffer;
  readonly keepsText: boolean;
  readonly resolve: (reply: HttpReply) => void;
  readonly reject: (error: Error) => void;
  timer: NodeJS.Timeout | undefined;
}

/** Writes a POST as the bytes that go out, so that sending it again costs nothing but the write. */
export function postBytes(url: URL, headers: Readonly<Record<string, string>>, body: Buffer): Buffer {
  const lines = Object.entries({ host: url.host, ...headers, 'content-length': String(body.length) });
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return Buffer.concat([Buffer.from(`POST ${url.pathname} HTTP/1.1\r\n${head}\r\n`, 'latin1'), body]);
}

/** A pool of connections, one request at a time on each; the one used last is used next. */
export class HttpConnections {
  readonly #options: ConnectionOptions;
  readonly #open = new Set<Connection>();
  readonly #free: Connection[] = [];
  readonly #waiting: Exchange[] = [];
  #isClosed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** Sends a request as it is and gives its reply; rejects with an error whose `code` says what went wrong. */
  send(request: Buffer, keepsText: boolean): Promise<HttpReply> {
    return new Promise((resolve, reject) => {
      const exchange: Exchange = { request, keepsText, resolve, reject, timer: undefined };
      exchange.timer = setTimeout(() => this.#timeOut(exchange), this.#options.timeoutMs);
      this.#start(exchange);
    });
  }

  /** Ends every connection. */
  close(): void {
    this.#isClosed = true;
    for (const connection of this.#open) connection.destroy(failure('closed', 'the generator was closed'));
  }

  #start(exchange: Exchange): void {
    const connection =
      this.#free.pop() ?? (this.#open.size < this.#options.maxConnections ? this.#connect() : undefined);
    if (connection) connection.run(exchange);
    else this.#waiting.push(exchange);
  }

  #connect(): Connection {
    const connection = new Connection(this.#options.url, {
      onFree: () => {
        const next = this.#waiting.shift();
        if (next) connection.run(next);
        else this.#free.push(connection);
      },
      onGone: () => {
        this.#open.delete(connection);
        const at = this.#free.indexOf(connection);
        if (at >= 0) this.#free.splice(at, 1);
        const next = this.#isClosed ? undefined : this.#waiting.shift();
        if (next) this.#start(next);
      },
    });
    this.#open.add(connection);
    return connection;
  }

  #timeOut(exchange: Exchange): void {
    const error = failure('timeout', 'no answer in time');
    const at = this.#waiting.indexOf(exchange);
    if (at >= 0) {
      this.#waiting.splice(at, 1);
      exchange.reject(error);
      return;
    }
    for (const connection of this.#open) {
      if (connection.current === exchange) connection.destroy(error);
    }
  }
}

class Connection {
  current: Exchange | undefined;
  readonly #socket: net.Socket;
  readonly #reader = new ReplyReader();
  readonly #pool: { readonly onFree: () => void; readonly onGone: () => void };

  constructor(url: URL, pool: { readonly onFree: () => void; readonly onGone: () => void }) {
    this.#pool = pool;
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const isTls = url.protocol === 'https:';
    const port = Number(url.port || (isTls ? 443 : 80));
    this.#socket = isTls ? tls.connect({ host, port, servername: host }) : net.connect({ host, port });
    this.#socket.setNoDelay(true);
    this.#socket.on('data', (received) => this.#receive(received));
    this.#socket.on('end', () => this.#finish(this.#reader.end()));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => {
      this.#fail(failure('ECONNRESET', 'the connection ended before the reply'));
      this.#pool.onGone();
    });
  }

  run(exchange: Exchange): void {
    this.current = exchange;
    this.#reader.begin(exchange.keepsText);
    this.#socket.write(exchange.request);
  }

  destroy(error: Error): void {
    this.#fail(error);
    this.#socket.destroy();
  }

  #receive(received: Buffer): void {
    try {
      // Bytes that nobody asked for make the connection useless.
      if (!this.current) throw failure('EPROTO', 'a reply without a request');
      this.#finish(this.#reader.push(received));
    } catch (error) {
      this.destroy(Object.assign(error as Error, { code: 'EPROTO' }));
    }
  }

  #finish(reply: HttpReply | undefined): void {
    const exchange = this.current;
    if (!reply || !exchange) return;
    this.current = undefined;
    clearTimeout(exchange.timer);
    if (reply.isKept) this.#pool.onFree();
    else this.#socket.destroy();
    exchange.resolve(reply);
  }

  #fail(error: Error): void {
    const exchange = this.current;
    this.current = undefined;
    clearTimeout(exchange?.timer);
    exchange?.reject(error);
  }
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
