/** A web server of files for tests: ETags, lengths, redirects of directories and pages that list them, and faults. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { type Certificate, listen } from './web-listener.js';

/** An answer that a test gives instead of the server; false: the server answers. */
export type Override = (request: IncomingMessage, response: ServerResponse) => boolean;

/** A running server. */
export interface FileServer {
  /** `http://127.0.0.1:PORT`; with a certificate `https://localhost:PORT` */
  readonly address: string;
  /** What was asked for: method, path, status. */
  readonly requests: string[];
  override: Override;
  close(): Promise<void>;
}

/** Serves the files below `directory` on a free port of this machine; over TLS where it is given a certificate. */
export async function serveFiles(directory: string, certificate?: Certificate): Promise<FileServer> {
  const requests: string[] = [];
  const { address, close } = await listen((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname);
    response.on('close', () => requests.push(`${request.method} ${path} ${response.statusCode}`));
    if (!served.override(request, response)) answer(directory, path, request, response);
  }, certificate);
  const served: FileServer = { address, requests, override: () => false, close };
  return served;
}

function answer(directory: string, path: string, request: IncomingMessage, response: ServerResponse): void {
  // A slash behind the name of a file is an error of the file system.
  const place = join(directory, path).replace(/\/+$/, '');
  const found = statSync(place, { throwIfNoEntry: false });
  if (!found || (found.isFile() && path.endsWith('/'))) {
    response.writeHead(404, { 'content-type': 'text/html' }).end('<p>not here</p>');
  } else if (found.isDirectory() && !path.endsWith('/')) {
    response.writeHead(301, { location: `${path}/` }).end();
  } else if (found.isDirectory()) {
    const links = readdirSync(place, { withFileTypes: true }).map((entry) => {
      const name = `${encodeURIComponent(entry.name)}${entry.isDirectory() ? '/' : ''}`;
      return `<li><a href="${name}">${name}</a></li>`;
    });
    response.writeHead(200, { 'content-type': 'text/html' });
    response.end(
      `<ul><li><a href="../">Parent</a></li><li><a href="?C=N">Name</a></li>${links.join('')}</ul>`,
    );
  } else {
    const content = readFileSync(place);
    const etag = `"${createHash('md5')
      .update(`${content.toString('latin1')}${found.mtimeMs}`)
      .digest('hex')}"`;
    if (request.headers['if-none-match'] === etag) {
      response.writeHead(304, { etag }).end();
      return;
    }
    response.writeHead(200, {
      'content-type': 'application/octet-stream',
      'content-length': content.length,
      'last-modified': found.mtime.toUTCString(),
      etag,
    });
    response.end(request.method === 'HEAD' ? undefined : content);
  }
}
