/** A web server that takes PUT and DELETE and nothing more of WebDAV, and lists no directories. */
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { dirname, join } from 'node:path';
import { type Certificate, listen } from './web-listener.js';

/** A running server. */
export interface PutServer {
  readonly address: string;
  /** What was asked for: method and path. */
  readonly requests: string[];
  /** An answer that a test gives instead; false: the server answers. */
  override: (request: IncomingMessage, response: ServerResponse) => boolean;
  close(): Promise<void>;
}

/** Keeps files below `directory`, on a free port of this machine; over TLS where it is given a certificate. */
export async function startPutServer(directory: string, certificate?: Certificate): Promise<PutServer> {
  const { address, close } = await listen((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname);
    served.requests.push(`${request.method} ${path}`);
    if (!served.override(request, response)) void answer(directory, path, request, response);
  }, certificate);
  const served: PutServer = { address, requests: [], override: () => false, close };
  return served;
}

async function answer(
  directory: string,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // A slash behind the name of a file is an error of the file system.
  const place = join(directory, path).replace(/\/+$/, '');
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
  } else if (!found?.isFile() || path.endsWith('/')) {
    response.writeHead(404).end();
  } else {
    const content = readFileSync(place);
    response.writeHead(200, { 'content-length': content.length, 'last-modified': found.mtime.toUTCString() });
    response.end(content);
  }
}
