/** A web server that takes PUT and DELETE and nothing more of WebDAV, and lists no directories. */
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';

/** A running server. */
export interface PutServer {
  readonly address: string;
  /** What was asked for: method and path. */
  readonly requests: string[];
  /** An answer that a test gives instead; false: the server answers. */
  override: (request: IncomingMessage, response: ServerResponse) => boolean;
  close(): Promise<void>;
}

/** Keeps files below `directory`, on a free port of this machine. */
export async function startPutServer(directory: string): Promise<PutServer> {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname);
    served.requests.push(`${request.method} ${path}`);
    if (!served.override(request, response)) void answer(join(directory, path), request, response);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const served: PutServer = {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: [],
    override: () => false,
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
  return served;
}

async function answer(place: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const found = statSync(place, { throwIfNoEntry: false });
  if (request.method === 'PUT') {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    mkdirSync(dirname(place), { recursive: true });
    writeFileSync(place, Buffer.concat(chunks));
    response.writeHead(found ? 204 : 201).end();
  } else if (request.method === 'DELETE') {
    rmSync(place, { force: true });
    response.writeHead(found ? 204 : 404).end();
  } else if (request.method !== 'GET') {
    response.writeHead(405).end();
  } else if (!found?.isFile()) {
    response.writeHead(404).end();
  } else {
    const content = readFileSync(place);
    response.writeHead(200, { 'content-length': content.length, 'last-modified': found.mtime.toUTCString() });
    response.end(content);
  }
}
